"""The mouse in a real window: what a press costs, and what dragging moves."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    Hand,
    answered,
    drafts,
    iou,
    load,
    mask_of,
    rest,
    until,
)

from sam_plugins.napari_plugin import drawing  # noqa: E402
from sam_plugins.napari_plugin.answering import Answerer  # noqa: E402
from sam_plugins.napari_plugin.layers import role_of  # noqa: E402
from sam_plugins.napari_plugin.mouse import camera_of  # noqa: E402
from sam_plugins.napari_plugin.params import SegmentParams  # noqa: E402
from sam_plugins.napari_plugin.session.values import MaskPrompt, PointPrompt  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

SIDE = 200


@pytest.fixture
def blobs() -> Any:
    """Return a picture (H, W) of one bright square."""
    image = np.full((SIDE, SIDE), 30, np.uint8)
    image[60:140, 60:140] = 220
    return image


def opened(viewer: Any, image: Any, loader: Any = load) -> tuple[SegmentWidget, Hand]:
    viewer.add_image(image, name="square")
    widget = SegmentWidget(viewer, load=loader)
    viewer.window.add_dock_widget(widget, name="Segment")
    hand = Hand(viewer)
    hand.settle()
    return widget, hand


def test_the_scene_is_not_drawn_before_the_model_is_asked(
    viewer: Any, blobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_MS_WITHOUT_ANSWER", 60_000)  # points come where answers do not
    may_answer, has_asked = threading.Event(), threading.Event()
    may_answer.set()

    class Waiting(Answerer):
        def answer(self, *args: Any, **keywords: Any) -> Any:
            has_asked.set()
            assert may_answer.wait(60)
            return super().answer(*args, **keywords)

    def waiting(show: Any) -> Answerer:
        known = load(show)
        return Waiting(known.model, known.cache, show)

    widget, hand = opened(viewer, blobs, waiting)
    try:
        hand.click((100, 100))  # the layers are made once
        answered(widget)
        until(lambda: len(widget.segmenter.view.layers) == 2)  # type: ignore[union-attr]
        scene = viewer.window._qt_viewer.canvas._scene_canvas
        done: list[str] = []

        def noted(name: str) -> Any:
            work = getattr(scene, name)

            def note(*args: Any, **keywords: Any) -> Any:
                done.append(name)
                return work(*args, **keywords)

            return note

        for name in ("update", "visual_at"):  # draw the window; draw all to see what is where
            monkeypatch.setattr(scene, name, noted(name))
        may_answer.clear()
        has_asked.clear()
        where, no_key = hand.point((80, 80)), Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(scene.native, Qt.MouseButton.LeftButton, no_key, where)
        until(has_asked.is_set)
        assert done == []
        may_answer.set()
        answered(widget)
        assert "update" in done
        assert "visual_at" not in done
    finally:
        may_answer.set()
        widget.controller.close()


def test_dragging_keeps_what_was_grabbed_under_the_mouse(viewer: Any, blobs: Any) -> None:
    widget, hand = opened(viewer, blobs)
    camera = camera_of(viewer)
    grabbed, dropped = (60, 70), (120, 150)
    where = hand.point(dropped)
    zoom = camera.zoom
    hand.drag([grabbed, (80, 90), (100, 120), dropped])
    assert camera.zoom == zoom
    found = hand.point(grabbed)
    assert abs(found.x() - where.x()) <= 1
    assert abs(found.y() - where.y()) <= 1
    assert not drafts(widget)

    camera.mouse_pan = False
    before = camera.center
    hand.drag([grabbed, (80, 90), dropped])
    assert camera.center == before
    camera.mouse_pan = True
    widget.controller.close()
    hand.drag([(100, 100), (90, 95), (80, 90)])  # without us napari moves it
    assert camera.center != before


def outline_shown(viewer: Any) -> int:
    """Return how many corners the outline has that is being drawn."""
    shown = [layer for layer in viewer.layers if role_of(layer) == "boxes"]
    return sum(len(shape) for layer in shown for shape in layer.data)


CORNERS = [(62, 62), (62, 138), (138, 138), (138, 62)]


def test_clicks_are_corners_that_a_double_click_closes(viewer: Any, blobs: Any) -> None:
    widget, hand = opened(viewer, blobs)
    widget.controller.set_params(SegmentParams(tool="polygon"))
    for number, corner in enumerate(CORNERS[:3]):
        hand.click(corner)
        rest()
        assert drafts(widget) == ()
        hand.hover((138, 70))
        assert outline_shown(viewer) == number + 2  # the last one follows the mouse
    hand.double_click(CORNERS[3])
    until(lambda: drafts(widget))
    assert outline_shown(viewer) == 0
    (draft,) = drafts(widget)
    (prompt,) = draft.prompts
    assert isinstance(prompt, MaskPrompt)
    drawn = mask_of(prompt.mask, blobs.shape)
    assert iou(drawn, blobs > 100) > 0.85
    answered(widget)
    hand.click((100, 100), CTRL)  # a correction stays a point
    until(lambda: len(drafts(widget)[0].turns) == 2)
    assert isinstance(drafts(widget)[0].prompts[-1], PointPrompt)
    widget.controller.close()


def test_a_click_on_the_first_corner_closes_and_escape_drops(viewer: Any, blobs: Any) -> None:
    widget, hand = opened(viewer, blobs)
    widget.controller.set_params(SegmentParams(tool="polygon"))
    for corner in CORNERS[:3]:
        hand.click(corner)
    hand.hover((100, 30))
    assert outline_shown(viewer) == 4
    hand.key(Qt.Key.Key_Escape)
    rest()
    assert outline_shown(viewer) == 0
    assert "Escape" not in viewer.keymap  # it is napari's again
    for corner in CORNERS:
        hand.click(corner)
    assert drafts(widget) == ()  # the three that were dropped do not count
    hand.click(CORNERS[0])
    until(lambda: drafts(widget))
    (draft,) = drafts(widget)
    assert iou(mask_of(draft.prompts[0].mask, blobs.shape), blobs > 100) > 0.85
    answered(widget)

    hand.click((20, 20))
    hand.click((20, 40))
    hand.drag([(60, 70), (70, 80), (90, 100)])  # moves the view, and nothing is lost
    hand.hover((40, 40))
    assert outline_shown(viewer) == 3
    widget.controller.set_params(SegmentParams(tool="points"))
    assert outline_shown(viewer) == 0
    assert len(drafts(widget)) == 1
    widget.controller.close()
