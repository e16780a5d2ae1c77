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
from tests.napari_plugin.segmenting import Hand, answered, drafts, load, until  # noqa: E402

from sam_plugins.napari_plugin import drawing  # noqa: E402
from sam_plugins.napari_plugin.answering import Answerer  # noqa: E402
from sam_plugins.napari_plugin.mouse import camera_of  # noqa: E402
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
