"""Objects through stacks in a real window: a nucleus of an embryo, a car in a film."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from scipy import ndimage

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QPushButton  # noqa: E402
from tests.napari_plugin.helpers import keep_screenshot, put_labels  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Hand,
    Open,
    answered,
    drafts,
    iou,
    load_held_back,
    shipped_model,
    until,
)

from sam_plugins import EmbeddingCache, read_image  # noqa: E402
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of  # noqa: E402
from sam_plugins.napari_plugin.answering import Answerer  # noqa: E402
from sam_plugins.napari_plugin.errors import NothingThereError  # noqa: E402
from sam_plugins.napari_plugin.images import ImageSource  # noqa: E402
from sam_plugins.napari_plugin.label_arrays import create_labels, largest_label  # noqa: E402
from sam_plugins.napari_plugin.layers import add_labels  # noqa: E402
from sam_plugins.napari_plugin.samples import nuclei_3d  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane, Window  # noqa: E402
from sam_plugins.napari_plugin.stack import NoStackError, follow_axis  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

Labels = npt.NDArray[np.integer[Any]]


@pytest.fixture(scope="module")
def embryo(test_data: Path) -> tuple[npt.NDArray[Any], Labels]:
    folder = test_data / "mouse_embryo_3d" / "train"
    (path,) = (folder / "images").iterdir()
    (labels,) = (folder / "labels").iterdir()
    return tifffile.imread(path), tifffile.imread(labels)


@pytest.fixture
def open_segment(open_segment: Open) -> Open:
    """Return what opens **Segment**, which encodes no other slices unless it is to."""
    return partial(open_segment, ahead=False)


def middle(truth: npt.NDArray[np.bool_]) -> tuple[int, float, float]:
    """Return the middle slice of an object, and y and x of a point deep inside."""
    inside = np.flatnonzero(truth.any(axis=(1, 2)))
    index = int(inside[len(inside) // 2])
    x, y = deepest_point(window_of(truth[index]))
    return index, float(y), float(x)


def followed(widget: SegmentWidget) -> tuple[Any, ...]:
    assert widget.segmenter is not None
    return widget.segmenter.session.state.followed


def is_following(widget: SegmentWidget) -> bool:
    assert widget.segmenter is not None
    return widget.segmenter.through.follower.is_running


def objects(widget: SegmentWidget) -> Labels:
    assert widget.segmenter is not None
    return np.asarray(widget.segmenter.objects.data)


def current(widget: SegmentWidget) -> Labels:
    assert widget.segmenter is not None
    assert widget.segmenter.view.current is not None
    return np.asarray(widget.segmenter.view.current.data)


def test_click_propagate_commit_undo_redo(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    truth = labels == 2
    index, y, x = middle(truth)
    viewer.dims.set_point(0, index)
    widget, hand = open_segment()
    hand.click((index, y, x))
    answered(widget)
    hand.key(Qt.Key.Key_P)
    assert is_following(widget)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.ends) == 2
    assert iou(current(widget) > 0, truth) > 0.7
    shown = current(widget) > 0
    hand.key(Qt.Key.Key_C)
    np.testing.assert_array_equal(objects(widget) == 1, shown)
    committed = objects(widget).tobytes()
    assert not current(widget).any()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not objects(widget).any()
    np.testing.assert_array_equal(current(widget) > 0, shown)
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert objects(widget).tobytes() == committed
    hand.key(Qt.Key.Key_Z, CTRL)
    hand.key(Qt.Key.Key_Z, CTRL)
    assert followed(widget) == ()
    assert np.flatnonzero(current(widget).any(axis=(1, 2))).tolist() == [index]


def start(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], **keywords: Any
) -> tuple[SegmentWidget, Hand, npt.NDArray[np.bool_]]:
    """Open **Segment** on the embryo, and click into the middle slice of a nucleus."""
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    truth = labels == 2
    index, y, x = middle(truth)
    viewer.dims.set_point(0, index)
    widget, hand = open_segment(**keywords)
    hand.click((index, y, x))
    answered(widget)
    return widget, hand, truth


@pytest.mark.slow
def test_the_first_mask_costs_one_encode_and_following_encodes_it_no_more(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    cache = EmbeddingCache()
    encoder = shipped_model().network.image_encoder
    encodes = []
    hook = encoder.register_forward_hook(lambda *_: encodes.append(1))
    try:
        doubled = (np.concatenate([embryo[0]] * 2), np.concatenate([embryo[1], embryo[1] * 0]))
        assert len(doubled[0]) > 100
        widget, _, _ = start(
            viewer,
            open_segment,
            doubled,
            loader=lambda show: Answerer(shipped_model(), cache, show),
        )
        assert len(encodes) == 1
        widget.controller.propagate()
        until(lambda: not is_following(widget))
        (found,) = followed(widget)
        assert len(found.slices) <= len(encodes) <= len(found.slices) + 4
    finally:
        hook.remove()


def test_cancel_keeps_what_is_done_and_propagate_goes_on_from_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, truth = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    index = drafts(widget)[0].sight.plane.at[0]
    until(lambda: len(np.flatnonzero(current(widget).any(axis=(1, 2)))) >= 4)
    near = np.flatnonzero(current(widget).any(axis=(1, 2)))
    assert near.tolist() == list(range(near[0], near[-1] + 1))  # both ways from where one is
    assert near[0] < index < near[-1]
    hand.key(Qt.Key.Key_C)  # not while it goes on
    assert not objects(widget).any()
    began = time.monotonic()
    widget.controller.stop_propagating()
    until(lambda: not is_following(widget))
    assert time.monotonic() - began < 1
    (part,) = followed(widget)
    assert {end.reason for end in part.ends} == {"not followed further yet"}
    assert len(part.slices) >= 4
    job = widget.segmenter.through.follower.job  # type: ignore[union-attr]
    assert job is not None
    assert job.wait(10)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (whole,) = followed(widget)
    assert len(whole.slices) > len(part.slices)
    assert iou(current(widget) > 0, truth) > 0.7
    kept = {found.plane: found.mask for found in whole.slices}
    assert all(kept[found.plane] == found.mask for found in part.slices)


@pytest.mark.slow
def test_many_objects_at_once_in_one_step(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    index = 25
    inside = [n for n in np.unique(labels[index]) if n and (labels[index] == n).sum() > 150][:3]
    viewer.dims.set_point(0, index)
    widget, _ = open_segment()
    points = []
    for number in inside:
        x, y = deepest_point(window_of(labels[index] == number))
        points.append((index, y, x))
    assert len(points) >= 2
    widget.segmenter.add_objects(points)  # type: ignore[union-attr]
    answered(widget)
    widget.controller.propagate()
    until(lambda: not is_following(widget))
    assert len(followed(widget)) == len(points)
    assert widget.controller.commit() == tuple(range(1, len(points) + 1))
    scores = [iou(objects(widget) == i, labels == n) for i, n in enumerate(inside, 1)]
    assert np.mean(scores) > 0.6
    widget.controller.undo()
    assert not objects(widget).any()


def test_a_doubtful_slice_is_visited_corrected_and_followed_from_there_only(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, truth = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    box = widget.through_stack
    assert box.isVisible()
    assert "Ends below at" in box.summary.text()
    assert box.doubts.count() > 0
    box.doubts.itemClicked.emit(box.doubts.item(0))
    (before,) = followed(widget)
    index = before.doubts[0].index
    assert viewer.dims.current_step[0] == index
    assert widget.controller.active_draft is not None
    start_index = widget.controller.active_draft.sight.plane.at[0]
    if not truth[index].any():
        index = int(np.flatnonzero(truth.any(axis=(1, 2)))[2])
        viewer.dims.set_point(0, index)
    x, y = deepest_point(window_of(truth[index]))
    hand.click((index, y, x))
    answered(widget)
    first, second = drafts(widget)
    assert first.object_key == second.object_key
    assert "from there only" in box.summary.text()
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (after,) = followed(widget)
    assert after.anchors != before.anchors
    side = np.sign(start_index - index)
    untouched = [one for one in before.slices if (one.plane.at[0] - start_index) * side > 0]
    assert len(untouched) > 3
    assert all(after.on(found.plane) == found for found in untouched)
    (label,) = widget.controller.commit()
    assert iou(objects(widget) == label, truth) > 0.6
    widget.controller.undo()
    widget.controller.undo()
    assert followed(widget) == (before,)


@pytest.mark.slow
def test_a_negative_click_on_a_followed_slice_corrects_what_is_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, _ = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    there = found.slices[3]
    index = there.plane.at[0]
    viewer.dims.set_point(0, index)
    rows, columns = np.nonzero(there.mask.mask)
    window = there.mask.window
    hand.click((index, window.top + rows[0] + 1, window.left + columns[0]), CTRL)
    answered(widget)
    corrected = drafts(widget)[-1]
    assert corrected.object_key == found.key
    assert corrected.prompts[0].mask == there.mask
    assert not corrected.prompts[1].is_positive
    shown = current(widget)[index] > 0
    np.testing.assert_array_equal(shown, corrected.mask.on(Window(0, 0, *shown.shape)))


@pytest.mark.slow
def test_scaled_stacks_and_other_axes(viewer: Any, open_segment: Open) -> None:
    ((volume, keywords, _),) = nuclei_3d()
    viewer.add_image(volume[:, :128, :128], scale=keywords["scale"], translate=(10, 0, 0))
    viewer.dims.order = (1, 0, 2)  # planes of z and x, the slider moves y
    widget, hand = open_segment()
    segmenter = widget.segmenter
    assert segmenter is not None
    bright: Any = ndimage.gaussian_filter(volume[:, :128, :128].astype(float), (1, 2, 2))
    z, y, x = np.unravel_index(np.argmax(bright), bright.shape)
    world = (10 + 2 * z, y, x)
    viewer.dims.set_point(1, int(y))
    hand.click(world)
    answered(widget)
    assert drafts(widget)[0].sight.plane == Plane((0, 2), (int(y),))
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert found.axis == 1
    assert segmenter.through._stack(segmenter.session.state).voxel_size == (1.0, 2.0, 1.0)
    widget.controller.commit()
    inside = objects(widget) == 1
    assert inside[z, y, x]
    extents = np.ptp(np.argwhere(inside), axis=0) + 1
    assert 14 <= extents[1] <= 34  # a nucleus has a diameter of 18 to 28
    assert 0.5 < extents[0] * 2 / extents[1] < 2


@pytest.mark.slow
def test_a_car_is_followed_through_a_film(viewer: Any, open_segment: Open, test_data: Path) -> None:
    folder = test_data / "davis_car_shadow" / "val"
    frames = sorted((folder / "images").iterdir())[:8]
    truth = np.stack(
        [read_image(p) > 0 for p in sorted((folder / "labels").iterdir())[: len(frames)]]
    )
    film = np.stack([read_image(path) for path in frames])
    viewer.add_image(film, rgb=True, name="car")
    widget, hand = open_segment()
    widget.through_stack.controls.set(kind="film")
    assert widget.controller.follow_params.min_overlap == 0.5
    rows, columns = np.nonzero(truth[0])
    corners = [(0, f(rows), f(columns)) for f in (np.min, np.mean, np.max)]
    hand.drag(corners, SHIFT)
    answered(widget)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.slices) == len(frames)
    assert found.ends[0].reason == "edge of the range"
    assert iou(current(widget) > 0, truth) > 0.5


def test_a_large_stack_is_written_to_a_chunked_file(
    viewer: Any,
    open_segment: Open,
    embryo: tuple[Any, Labels],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1000)
    widget, hand, truth = start(viewer, open_segment, embryo)
    layer = widget.segmenter.objects  # type: ignore[union-attr]
    assert isinstance(layer.data, zarr.Array)
    assert layer.data.chunks[0] == 1
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    hand.key(Qt.Key.Key_C)
    committed = objects(widget)
    assert iou(committed == 1, truth) > 0.7
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not objects(widget).any()
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert objects(widget).tobytes() == committed.tobytes()


def test_in_3d_display_the_mouse_is_left_alone_and_the_buttons_work(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, _, truth = start(viewer, open_segment, embryo)
    viewer.dims.ndisplay = 3
    assert not widget.controller.takes_mouse
    assert "3D display" in widget.status()
    for name in ("propagate", "commit", "undo", "redo"):
        button = widget.findChild(QPushButton, name)
        assert button is not None
        button.click()
        until(lambda: not is_following(widget))
        if name == "undo":
            assert not objects(widget).any()
    assert iou(objects(widget) == 1, truth) > 0.7
    viewer.dims.ndisplay = 2
    assert "3D display" not in widget.status()


@pytest.mark.parametrize("way", ["widget", "image"])
def test_leaving_while_objects_are_followed(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], way: str
) -> None:
    widget, hand, _ = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: len(np.flatnonzero(current(widget).any(axis=(1, 2)))) >= 2)
    follower = widget.segmenter.through.follower  # type: ignore[union-attr]
    job = follower.job
    assert job is not None
    if way == "widget":
        viewer.window.remove_dock_widget(widget)
        widget.close()
    else:
        viewer.layers.remove("embryo")
    assert job.wait(10)
    for _ in range(5):
        QApplication.processEvents()
    assert not follower.is_running


@pytest.mark.slow
def test_the_other_slices_are_encoded_from_where_one_is(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], tmp_path: Path
) -> None:
    seen: list[int] = []

    def loader(show: Any) -> Answerer:
        def watched(sight: Any) -> Any:
            return show(sight)

        cache = EmbeddingCache(tmp_path / "embeddings")
        return Answerer(shipped_model(), cache, watched)

    encoder = shipped_model().network.image_encoder
    hook = encoder.register_forward_hook(lambda *_: seen.append(1))
    image = embryo[0][10:24]
    try:
        viewer.add_image(image, name="part")
        viewer.dims.set_point(0, 3)
        widget, hand = open_segment(loader=loader, ahead=True)
        hand.click((3, 60, 60))
        answered(widget)
        filler = widget.segmenter.through.filler  # type: ignore[union-attr]
        assert filler.job is not None
        until(lambda: len(seen) >= 3)
        viewer.dims.set_point(0, 12)
        assert filler._focus == 12
        until(lambda: filler._slices is not None)
        slices = filler._slices
        assert slices is not None
        until(lambda: slices.is_ready(11))
        assert slices.is_ready(12)
        assert not slices.is_ready(7)  # it was nearer to where one began
        until(lambda: not filler.is_running)
        encoded = len(seen)
        assert len(image) <= encoded <= len(image) + 1  # that of 12 may be asked for twice at once
        widget.controller.close()
        # Another program, after a crash: everything is there.
        again, hand = open_segment(loader=loader, ahead=True)
        hand.click((3, 60, 60))
        answered(again)
        filler = again.segmenter.through.filler  # type: ignore[union-attr]
        assert filler.job is not None
        until(lambda: not filler.is_running)
        assert len(seen) == encoded
    finally:
        hook.remove()


def test_following_may_be_wanted_before_the_answer_is_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    from napari.utils.notifications import notification_manager

    image, labels = embryo
    viewer.add_image(image, name="embryo")
    place = middle(labels == 2)
    viewer.dims.set_point(0, place[0])
    may_go = threading.Event()
    widget, hand = open_segment(loader=load_held_back(may_go))
    assert widget.segmenter is not None
    through = widget.segmenter.through
    hand.click(place)
    hand.key(Qt.Key.Key_C)
    hand.key(Qt.Key.Key_P)
    assert "about to be committed" in notification_manager.records[-1].message
    hand.key(Qt.Key.Key_Z, CTRL)
    hand.click(place)
    hand.key(Qt.Key.Key_P)
    assert "Then it is followed." in widget.status()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not through.is_awaited
    hand.click(place)
    hand.key(Qt.Key.Key_P)
    widget.controller.stop_propagating()
    assert not through.is_awaited
    hand.key(Qt.Key.Key_M)
    hand.key(Qt.Key.Key_P)
    assert not is_following(widget)
    may_go.set()
    until(lambda: followed(widget))
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.slices) > 3
    assert drafts(widget)[0].turns[-1].choice is not None
    assert not through.is_awaited


def test_what_cannot_be_followed_says_why(viewer: Any, open_segment: Open) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8))
    widget, _ = open_segment()
    through = widget.segmenter.through  # type: ignore[union-attr]
    assert not widget.through_stack.isVisible()
    with pytest.raises(NoStackError, match="click on one first"):
        through.follow()
    with pytest.raises(NoStackError, match="open a stack or a film"):
        follow_axis(through._segmenter.viewpoint.source, Plane())
    source = ImageSource([np.zeros((4, 5, 6), np.uint8)])
    with pytest.raises(NoStackError, match="roll the axes"):
        follow_axis(source, Plane((1, 2), (0,)), 2)


@pytest.mark.parametrize("is_large", [False, True])
def test_delete_removes_an_object_from_all_slices_and_undo_brings_it_back(
    viewer: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr("sam_plugins.napari_plugin.object_edits._SEARCHED_AT_ONCE", 0)
    viewer.add_image(nuclei_3d()[0][0][:12])
    widget, hand = open_segment()
    labels = objects(widget)
    labels[2:9, 40:80, 40:80] = 3
    labels[:, 100:120, 100:120] = 4
    before = labels.copy()
    viewer.dims.set_point(0, 5)
    hand.hover((5, 60, 60))
    hand.key(Qt.Key.Key_Delete)
    until(lambda: 3 not in objects(widget))
    np.testing.assert_array_equal(objects(widget) == 4, before == 4)
    hand.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(objects(widget), before)
    hand.hover((5, 60, 60))
    hand.key(Qt.Key.Key_Delete, SHIFT)
    assert 3 not in objects(widget)[5]
    np.testing.assert_array_equal(objects(widget)[4], before[4])


@pytest.mark.parametrize("is_large", [False, True])
def test_merging_and_filling_go_through_all_slices_and_splitting_does_not(
    viewer: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr("sam_plugins.napari_plugin.object_edits._SEARCHED_AT_ONCE", 0)
    viewer.add_image(nuclei_3d()[0][0][:12])
    widget, hand = open_segment()
    assert widget.segmenter is not None
    edits, labels = widget.segmenter.edits, objects(widget)
    labels[2:9, 40:80, 40:80] = 1
    labels[4:11, 40:80, 80:99] = 2
    labels[3:, 50, 50] = 0
    labels[:, 100:120, 100:120] = 4
    before = labels.copy()
    viewer.dims.set_point(0, 6)
    edits.merge_at([(6, 60, 60), (6, 60, 90)])
    until(lambda: 2 not in objects(widget))
    np.testing.assert_array_equal(objects(widget) == 1, (before == 1) | (before == 2))
    hand.hover((6, 60, 60))
    hand.key(Qt.Key.Key_F)
    until(lambda: bool((objects(widget)[3:9, 50, 50] == 1).all()))
    edits.split_at([(6, 60, 45), (6, 60, 95)])
    assert [len(np.unique(plane)) for plane in objects(widget)[5:8]] == [3, 4, 3]
    for _ in range(3):
        hand.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_array_equal(objects(widget), before)
    with pytest.raises(NothingThereError, match="two objects or more, got 1"):
        edits.merge_at([(6, 60, 60)])


def test_large_labels_are_offered_to_be_kept_and_their_numbers_stay_apart(
    viewer: Any, qtbot: Any, open_segment: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1000)
    volume = nuclei_3d()[0][0][:12]
    viewer.add_image(volume, name="nuclei")
    viewer.dims.set_point(0, 5)
    widget, hand = open_segment()
    segmenter = widget.segmenter
    assert segmenter is not None
    assert widget.stored_labels.isVisible()
    plane = Plane((1, 2), (5,))
    put_labels(segmenter.session, plane, (volume[5] > 200).astype(np.uint32) * 41)
    path = tmp_path / "kept.zarr"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    button = widget.findChild(QPushButton, "keep_labels")
    assert button is not None
    keep_screenshot(viewer, qtbot, "large-labels")
    button.click()
    segmenter.session.delete(41, plane)  # while they are being copied
    until(lambda: segmenter.stored.path == path)
    assert not segmenter.stored.is_temporary
    kept = zarr.open_array(path, mode="r")
    assert not np.asarray(kept[:]).any()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert np.unique(np.asarray(kept[5])).tolist() == [0, 41]
    until(button.isHidden)
    label = widget.stored_labels.findChild(QLabel)
    assert label is not None
    assert "kept.zarr" in label.text()

    widget.controller.close()  # the next day
    viewer.layers.clear()
    image = viewer.add_image(volume, name="nuclei")
    add_labels(viewer, image, "objects", data=zarr.open_array(path, mode="r+"))
    widget, hand = open_segment()
    assert widget.segmenter is not None
    session = widget.segmenter.session
    until(lambda: session.state.next_label == 42)


def test_nothing_is_committed_before_the_numbers_of_a_file_are_known(
    viewer: Any, open_segment: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.utils.notifications import notification_manager

    labels = create_labels(tmp_path / "known.zarr", (4, 64, 64))
    labels[2, :9, :9] = 17
    goes_on = threading.Event()

    def slow(*given: Any) -> int:
        assert goes_on.wait(20)
        return largest_label(*given)

    monkeypatch.setattr("sam_plugins.napari_plugin.stored_labels.largest_label", slow)
    image = viewer.add_image(np.zeros((4, 64, 64), np.uint8))
    add_labels(viewer, image, "objects", data=labels)
    widget, _ = open_segment()
    assert widget.controller.commit() == ()
    assert "still being counted" in notification_manager.records[-1].message
    goes_on.set()
    assert widget.segmenter is not None
    session = widget.segmenter.session
    until(lambda: session.state.next_label == 18)
