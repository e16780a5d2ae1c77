"""Which layers **Segment** works on: each image with its own objects, in a real window."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from tests.napari_plugin.segmenting import Open, answered, drafts, until  # noqa: E402

from sam_plugins.napari_plugin.errors import NothingThereError  # noqa: E402
from sam_plugins.napari_plugin.images import ImageSource  # noqa: E402
from sam_plugins.napari_plugin.layers import role_of  # noqa: E402
from sam_plugins.napari_plugin.recovery import sessions_directory  # noqa: E402
from sam_plugins.napari_plugin.segmenter import Segmenter  # noqa: E402
from sam_plugins.napari_plugin.session.files import load_session  # noqa: E402
from sam_plugins.napari_plugin.session.masks import MaskCrop  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane  # noqa: E402
from sam_plugins.napari_plugin.session.values import (  # noqa: E402
    Answer,
    MaskPrompt,
    PointPrompt,
    Sight,
    Turn,
)
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402


def test_an_image_beside_another_has_objects_of_its_own(viewer: Any, open_segment: Open) -> None:
    one = viewer.add_image(np.zeros((32, 32), np.uint8), name="one")
    other = viewer.add_image(np.zeros((32, 32), np.uint8), name="other", translate=(0, 50))
    widget, _ = open_segment()
    viewer.layers.selection.active = one
    first = widget.segmenter
    viewer.layers.selection.active = other
    second = widget.segmenter
    assert first is not None
    assert second is not None
    assert (first.image, second.image) == (one, other)
    assert first.objects is not second.objects
    assert {layer.name for layer in viewer.layers if role_of(layer) == "objects"} == {
        first.objects.name,
        second.objects.name,
    }
    np.testing.assert_array_equal(second.objects.translate, (0, 50))
    other.translate = (0, 60)
    np.testing.assert_array_equal(second.objects.translate, (0, 60))
    np.testing.assert_array_equal(first.objects.translate, (0, 0))


def test_channels_of_one_picture_have_the_same_objects(viewer: Any, open_segment: Open) -> None:
    channels = viewer.add_image(np.zeros((2, 32, 32), np.uint8), channel_axis=0, scale=(2, 2))
    widget, _ = open_segment()
    found = []
    for channel in channels:
        viewer.layers.selection.active = channel
        assert widget.segmenter is not None
        found.append(widget.segmenter.objects)
    assert found[0] is found[1]


class Echo:
    """Answers with a square at the click: 8 pixels a side on bright pixels, else 4."""

    may_go = threading.Event()

    def __init__(self, show: Any) -> None:
        self._show = show

    def is_ready(self, sight: Sight) -> bool:
        return True

    def encode(self, sight: Sight) -> None:
        self._show(sight)

    def answer(self, sight: Sight, turns: tuple[Turn, ...]) -> Answer:
        picture = self._show(sight)
        assert self.may_go.wait(60)
        given = turns[-1].prompts[-1]
        if isinstance(given, MaskPrompt):
            return Answer((given.mask,), (1.0,))
        assert isinstance(given, PointPrompt)
        row, column = round(given.y), round(given.x)
        side = 8 if picture[row, column].max() > 100 else 4
        return Answer((MaskCrop.of(np.ones((side, side), bool), (row, column)),), (0.9,), "echo")


@pytest.fixture
def echo() -> Iterator[type[Echo]]:
    """Return what answers at once."""
    Echo.may_go.set()
    yield Echo
    Echo.may_go.set()


def segmenter_of(widget: SegmentWidget) -> Segmenter:
    assert widget.segmenter is not None
    return widget.segmenter


def areas(widget: SegmentWidget) -> list[int]:
    return [int(draft.mask.mask.sum()) for draft in drafts(widget) if draft.mask is not None]


DARK_LEFT = np.zeros((32, 32), np.uint8)
DARK_LEFT[:, 16:] = 250


def test_editing_an_object_of_another_layer_loses_nothing(
    viewer: Any, open_segment: Open, echo: Any
) -> None:
    image = viewer.add_image(DARK_LEFT, name="image")
    widget, _ = open_segment(None, echo)
    segmenter = segmenter_of(widget)
    first = segmenter.objects
    segmenter.click((3, 3))
    answered(widget)
    widget.controller.commit()
    segmenter.click((20, 20))
    answered(widget)
    drawn, before = drafts(widget), first.data.copy()
    labels = np.zeros((32, 32), np.uint16)
    labels[10:14, 20:24] = 7
    others = viewer.add_labels(labels, name="others")
    viewer.layers.selection.active = image
    segmenter.edits.edit_at((12, 22))
    assert segmenter.objects is others
    edited = drafts(widget)
    assert [draft.label for draft in edited] == [7]
    widget.controller.undo()
    assert segmenter.objects is first
    assert drafts(widget) == drawn
    widget.controller.redo()
    assert segmenter.objects is others
    assert drafts(widget) == edited
    segmenter.edits.edit_at((4, 4))  # and back: what is known of its objects is there
    assert segmenter.objects is first
    assert [known.label for known in segmenter.session.state.objects] == [1]
    for _ in range(3):
        widget.controller.undo()
    assert segmenter.objects is first
    assert drafts(widget) == ()
    np.testing.assert_array_equal(first.data, before)
    while segmenter.undo() is not None:
        pass
    assert not first.data.any()
    np.testing.assert_array_equal(others.data, labels)


def test_labels_that_lie_elsewhere_are_not_edited(
    viewer: Any, open_segment: Open, echo: Any
) -> None:
    image = viewer.add_image(DARK_LEFT, name="image")
    widget, _ = open_segment(None, echo)
    viewer.add_labels(np.full((32, 32), 3), name="shifted", translate=(0, 4))
    viewer.layers.selection.active = image
    with pytest.raises(NothingThereError, match="'shifted' do not lie on the pixels of 'image'"):
        segmenter_of(widget).edits.edit_at((12, 22))


def test_another_channel_axis_loses_nothing(viewer: Any, open_segment: Open, echo: Any) -> None:
    viewer.add_image(np.stack([DARK_LEFT] * 3), name="image")
    widget, _ = open_segment(None, echo, ahead=False)
    controller, first = widget.controller, segmenter_of(widget)
    first.click((*viewer.dims.point[:1], 3, 3))
    answered(widget)
    drawn = drafts(widget)
    controller.set_params(replace(controller.params, channel_axis=0))
    second = segmenter_of(widget)
    assert second is not first
    assert second.objects.data.shape == (32, 32)
    assert [role_of(layer) for layer in viewer.layers] == [None, "objects"]
    controller.set_params(replace(controller.params, channel_axis=-1))
    assert segmenter_of(widget) is first
    assert drafts(widget) == drawn
    assert first.objects in viewer.layers
    assert second.objects not in viewer.layers
    controller.commit()
    controller.undo()
    controller.undo()
    assert drafts(widget) == ()
    controller.redo()
    controller.redo()
    controller.set_params(replace(controller.params, channel_axis=0))
    assert first.objects in viewer.layers  # with what is in it
    assert first.objects.data.any()


def test_a_picture_that_is_replaced_is_asked_about_anew(
    viewer: Any, open_segment: Open, echo: Any
) -> None:
    image = viewer.add_image(DARK_LEFT, name="image")
    widget, _ = open_segment(None, echo)
    segmenter = segmenter_of(widget)
    segmenter.click((3, 3))
    answered(widget)
    assert areas(widget) == [16]
    image.data = DARK_LEFT[:, ::-1].copy()
    assert areas(widget) == [16]  # shown until the next answer is there
    answered(widget)
    assert areas(widget) == [64]
    echo.may_go.clear()
    segmenter.click((20, 20))
    image.data = DARK_LEFT
    echo.may_go.set()
    answered(widget)
    assert areas(widget) == [64]
    widget.controller.undo()
    notes = widget.controller.recovery._notes
    digest = ImageSource([DARK_LEFT]).fingerprint()
    until(lambda: id(segmenter) in notes and notes[id(segmenter)].fingerprint == digest)
    assert segmenter_of(widget) is segmenter
    image.data = np.zeros((20, 24), np.uint8)
    after = segmenter_of(widget)
    assert after is not segmenter
    assert after.objects.data.shape == (20, 24)
    assert segmenter.objects.data.shape == (32, 32)


def test_keys_under_the_mouse_say_what_to_do_in_3d_display(
    viewer: Any, open_segment: Open, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("sam_plugins.napari_plugin.controller.show_warning", told.append)
    viewer.add_image(np.stack([DARK_LEFT] * 3), name="image")
    widget, _ = open_segment(None, echo, ahead=False)
    segmenter_of(widget).objects.data[:] = 4
    viewer.dims.ndisplay = 3
    names = ("edit_object", "fill_object", "delete_object", "delete_slice", "accept_one")
    for name in (*names, "drop_one", "find_similar", "split_object"):
        getattr(widget.controller, name)()
        assert "switch to 2D display" in told.pop()
        assert told == []


def test_asking_again_is_a_job_that_tells(
    viewer: Any, open_segment: Open, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("sam_plugins.napari_plugin.replaying.show_info", told.append)
    image = viewer.add_image(DARK_LEFT, name="image")
    widget, _ = open_segment(None, echo)
    monkeypatch.setattr("sam_plugins.napari_plugin.controller.show_warning", told.append)
    assert widget.controller.replay() is None
    assert "there is no object of this session in 'image'" in told.pop()
    segmenter = segmenter_of(widget)
    for position in ((3, 3), (20, 20)):
        segmenter.click(position)
        answered(widget)
        widget.controller.commit()
    echo.may_go.clear()
    assert widget.controller.replay() is not None
    assert told == []
    echo.may_go.set()
    until(lambda: bool(told))
    assert told.pop() == "image: all 2 masks are the same as they were"
    image.data = DARK_LEFT[:, ::-1].copy()
    widget.controller.replay()
    until(lambda: bool(told))
    assert "2 of 2 masks are others than they were (objects 1, 2)" in told.pop()


LEAVING = """
import sys
import numpy as np, napari
from qtpy.QtWidgets import QApplication
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget
from sam_plugins.napari_plugin.session.planes import Plane
from tests.napari_plugin.helpers import put_labels

viewer = napari.Viewer()
rng = np.random.default_rng(0)
images = [
    viewer.add_image(rng.integers(0, 255, (32, 32), np.uint8), translate=(0, 50 * i))
    for i in range(3)
]
widget = SegmentWidget(viewer)
viewer.window.add_dock_widget(widget)
sessions = []
for image in images:
    viewer.layers.selection.active = image
    sessions.append(widget.segmenter.session)
while len(widget.controller.recovery._saves) < len(sessions):
    QApplication.processEvents()
for number, session in enumerate(sessions, 1):
    put_labels(session, Plane(), np.full((32, 32), number, np.uint32))
print(len(sessions), flush=True)
sys.exit()
"""


def test_leaving_python_with_the_window_open_saves_everything(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVING],
        capture_output=True, text=True, check=False, timeout=900, cwd=repository,
    )  # fmt: skip
    assert done.stdout.strip() == "3", done.stderr
    assert "deleted" not in done.stderr
    assert "Error" not in done.stderr
    assert list(sessions_directory().glob("*.lock")) == []  # all of them were ended
    found = [load_session(path) for path in sessions_directory().glob("*.samsession")]
    assert sorted(one.planes[Plane()].max() for one in found) == [1, 2, 3]
