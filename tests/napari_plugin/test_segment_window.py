"""**Segment** in a real window: mouse on the canvas, keys, the shipped model, real nuclei."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Hand,
    Nuclei,
    Open,
    answered,
    drafts,
    iou,
    mask_of,
    objects,
    rest,
    until,
)

from sam_plugins.napari_plugin.asking import load_answerer  # noqa: E402
from sam_plugins.napari_plugin.layers import role_of  # noqa: E402
from sam_plugins.napari_plugin.params import SegmentParams  # noqa: E402
from sam_plugins.napari_plugin.recovery import sessions_directory  # noqa: E402
from sam_plugins.napari_plugin.session.replay import replay  # noqa: E402


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> Nuclei:
    return Nuclei.read(test_data)


def test_open_click_cycle_undo_commit_by_mouse_and_keys(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image, name="nuclei")
    widget, hand = open_segment(loader=load_answerer)  # the model is loaded as people load it
    truth, centre = nuclei.nucleus()
    hand.click(centre)
    answered(widget)
    (draft,) = drafts(widget)
    assert iou(mask_of(draft.mask, truth.shape), truth) > 0.85
    current = widget.segmenter.view.current  # type: ignore[union-attr]
    assert current is not None
    assert role_of(current) == "current"
    np.testing.assert_array_equal(np.asarray(current.data) > 0, mask_of(draft.mask, truth.shape))
    assert "of 3, score" in widget.status()

    best = draft.mask
    hand.key(Qt.Key.Key_M)
    assert drafts(widget)[0].mask != best
    hand.key(Qt.Key.Key_Z, CTRL)
    assert drafts(widget)[0].mask == best
    hand.key(Qt.Key.Key_C)
    assert drafts(widget) == ()
    assert not np.asarray(current.data).any()
    np.testing.assert_array_equal(objects(widget) == 1, mask_of(best, truth.shape))
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not objects(widget).any()
    assert drafts(widget)[0].mask == best
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert objects(widget).max() == 1
    _, centre = nuclei.nucleus(1)
    hand.click(centre)
    answered(widget)
    assert len(drafts(widget)[0].prompts) == 1  # nothing is left of the object before
    hand.key(Qt.Key.Key_C, SHIFT)
    assert drafts(widget) == ()
    assert objects(widget).max() == 1


def test_boxes_negative_points_and_the_next_object(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    until(widget.segmenter.is_ready)  # type: ignore[union-attr]
    hand.click((128, 128), CTRL)
    assert drafts(widget) == ()  # nothing yet that it could be beside
    before = viewer.scene.camera.center if hasattr(viewer, "scene") else viewer.camera.center
    for rank in (0, 1):
        rows, columns = np.nonzero(nuclei.nucleus(rank)[0])
        corner = (rows.min() - 1, columns.min() - 1)
        other = (rows.max() + 1, columns.max() + 1)
        middle = ((corner[0] + other[0]) / 2, (corner[1] + other[1]) / 2)
        hand.drag([corner, middle, other], SHIFT)
    answered(widget)
    after = viewer.scene.camera.center if hasattr(viewer, "scene") else viewer.camera.center
    assert after == before  # drawing moves nothing
    assert len(drafts(widget)) == 2
    for rank in (0, 1):
        truth, _ = nuclei.nucleus(rank)
        assert iou(mask_of(drafts(widget)[rank].mask, truth.shape), truth) > 0.8
    hand.click(nuclei.nucleus(2)[1], CTRL)
    answered(widget)
    assert [len(draft.turns) for draft in drafts(widget)] == [1, 2]
    hand.key(Qt.Key.Key_N)
    hand.click(nuclei.nucleus(2)[1])
    answered(widget)
    assert [len(draft.turns) for draft in drafts(widget)] == [1, 2, 1]
    hand.key(Qt.Key.Key_C)
    assert objects(widget).max() == 3


def test_dragging_without_a_tool_moves_the_view(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    before = camera.center
    hand.drag([(100, 100), (120, 120), (140, 140)])
    assert camera.center != before
    assert drafts(widget) == ()


def rotated(nuclei: Nuclei) -> tuple[Any, dict[str, Any]]:
    angle = np.deg2rad(25)
    affine = np.eye(3)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return nuclei.image, {
        "scale": (0.5, 0.25),
        "translate": (-30, 400),
        "rotate": 10,
        "affine": affine,
    }


def in_stack(nuclei: Nuclei) -> npt.NDArray[np.uint8]:
    stack = np.stack([nuclei.image[::-1], nuclei.image, nuclei.image[:, ::-1]])
    return np.ascontiguousarray(stack)


KINDS: dict[str, Callable[[Nuclei], tuple[Any, dict[str, Any]]]] = {
    "scaled and rotated": rotated,
    "rgb": lambda n: (np.stack([n.image] * 3, -1), {"rgb": True}),
    "stack": lambda n: (in_stack(n), {"scale": (3, 0.5, 0.5)}),
    "time": lambda n: (np.stack([in_stack(n)] * 2), {}),
    "dask": lambda n: (
        da.from_array(in_stack(n), chunks=(1, 64, 64)),
        {},
    ),
    "channels first": lambda n: (np.stack([n.image // 2, n.image]), {}),
    "channels between": lambda n: (np.stack([in_stack(n)] * 2, axis=1), {}),
    "pyramid": lambda n: ([n.image, n.image[::2, ::2]], {"multiscale": True}),
    "turned": lambda n: (in_stack(n), {}),
}
CHANNEL_AXES = {"channels first": 0, "channels between": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_images_as_they_are(viewer: Any, open_segment: Open, nuclei: Nuclei, kind: str) -> None:
    data, keywords = KINDS[kind](nuclei)
    image = viewer.add_image(data, **keywords)
    if kind == "turned":
        viewer.dims.order = (0, 2, 1)
    widget, hand = open_segment(SegmentParams(channel_axis=CHANNEL_AXES.get(kind, -1)))
    truth, (y, x) = nuclei.nucleus()
    where = [0.0] * image.ndim
    where[-2:] = [y, x]
    is_stack = kind in {"stack", "time", "dask", "channels between", "turned"}
    if is_stack:
        where[1 if kind == "time" else 0] = 1
    if kind == "time":
        where[0] = 1
    world = image.data_to_world(where)
    for axis in viewer.dims.not_displayed:
        viewer.dims.set_point(axis, world[axis])
    hand.settle()
    hand.click(world)
    answered(widget)
    (draft,) = drafts(widget)
    plane = draft.sight.plane
    expected = truth.T if kind == "turned" else truth
    assert iou(mask_of(draft.mask, expected.shape), expected) > 0.8
    hand.key(Qt.Key.Key_C)
    layer = widget.segmenter.objects  # type: ignore[union-attr]
    written = np.asarray(layer.data)
    np.testing.assert_array_equal(plane.take(written) > 0, mask_of(draft.mask, expected.shape))
    assert (written > 0).sum() == draft.mask.area
    assert layer.get_value(world, world=True) == 1
    if is_stack:
        assert 1 in plane.at


def test_zarr_images_and_zarr_labels(
    viewer: Any, open_segment: Open, nuclei: Nuclei, tmp_path: Path, monkeypatch: Any
) -> None:
    import zarr

    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1000)
    stack = in_stack(nuclei)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=stack.shape, chunks=(1, 64, 64), dtype="u1"
    )
    array[:] = stack
    viewer.add_image(array)
    viewer.dims.set_point(0, 1)
    widget, hand = open_segment()
    truth, centre = nuclei.nucleus()
    hand.click((1, *centre))
    answered(widget)
    hand.key(Qt.Key.Key_C)
    layer = widget.segmenter.objects  # type: ignore[union-attr]
    assert isinstance(layer.data, zarr.Array)
    assert iou(np.asarray(layer.data[1]) == 1, truth) > 0.8
    assert layer.get_value((1, *centre), world=True) == 1
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not np.asarray(layer.data[:]).any()


def test_objects_of_any_labels_layer_are_edited_and_keep_their_number(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image, name="nuclei")
    widget, hand = open_segment()
    truth, centre = nuclei.nucleus()
    others = viewer.add_labels(np.where(truth, 42, 0).astype(np.int64), name="from elsewhere")
    viewer.layers.selection.active = viewer.layers["nuclei"]
    assert widget.segmenter is not None
    draft = widget.segmenter.edits.edit_at(centre)
    assert widget.segmenter.objects is others
    np.testing.assert_array_equal(mask_of(draft.mask, truth.shape), truth)  # type: ignore[arg-type]
    hand.click(centre)
    answered(widget)
    hand.key(Qt.Key.Key_C)
    assert np.unique(others.data).tolist() == [0, 42]
    assert iou(np.asarray(others.data) == 42, truth) > 0.8
    widget.segmenter.edits.split_at([(centre[0], centre[1] - 4), (centre[0], centre[1] + 4)])
    assert np.unique(others.data).tolist() == [0, 42, 43]
    widget.segmenter.edits.merge_at([(centre[0], centre[1] - 4), (centre[0], centre[1] + 4)])
    assert len(np.unique(others.data)) == 2
    hand.click(nuclei.nucleus(1)[1])
    answered(widget)
    hand.key(Qt.Key.Key_C)
    assert others.data.max() == 44
    widget.segmenter.edits.delete_at(centre)
    assert others.data[round(centre[0]), round(centre[1])] == 0


def test_keys_are_about_the_object_under_the_mouse(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    (truth, centre), (_, other) = nuclei.nucleus(0), nuclei.nucleus(1)
    labels = objects(widget)
    labels[nuclei.nucleus(1)[0]] = 4
    labels[truth] = 5
    y, x = round(centre[0]), round(centre[1])
    labels[y - 1 : y + 2, x - 1 : x + 2] = 0
    hand.hover((y - 4, x))
    hand.key(Qt.Key.Key_F)
    np.testing.assert_array_equal(objects(widget) == 5, truth)
    hand.key(Qt.Key.Key_E)
    assert drafts(widget)[0].label == 5
    hand.key(Qt.Key.Key_C, SHIFT)
    hand.hover(other)
    hand.key(Qt.Key.Key_Delete)
    assert np.unique(objects(widget)).tolist() == [0, 5]
    hand.key(Qt.Key.Key_Z, CTRL)
    assert np.unique(objects(widget)).tolist() == [0, 4, 5]


def test_layers_may_be_renamed_moved_and_removed(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    image = viewer.add_image(nuclei.image, name="one")
    widget, hand = open_segment()
    _, centre = nuclei.nucleus()
    hand.click(centre)
    answered(widget)
    for layer in viewer.layers:
        layer.name = f"renamed {layer.name}"
    viewer.layers.reverse()
    viewer.layers.remove(widget.segmenter.view.current)  # type: ignore[union-attr]
    hand.key(Qt.Key.Key_C)
    assert objects(widget).max() == 1
    kept = widget.segmenter.objects  # type: ignore[union-attr]
    viewer.layers.remove(kept)
    viewer.layers.selection.active = image
    hand.click(nuclei.nucleus(1)[1])
    answered(widget)
    assert role_of(widget.segmenter.view.current) == "current"  # type: ignore[union-attr]
    hand.key(Qt.Key.Key_C)
    assert kept in viewer.layers
    assert kept.data.max() == 2
    image.translate = (10, 20)
    assert kept.translate.tolist() == [10, 20]
    viewer.layers.remove(image)
    assert widget.segmenter is None
    assert widget.status() == "Open an image to segment."


@pytest.mark.parametrize("clicked", [("one", "two"), ("one",)])
def test_all_layers_are_removed_together(
    viewer: Any, open_segment: Open, nuclei: Nuclei, clicked: tuple[str, ...]
) -> None:
    viewer.add_image(nuclei.image, name="one")
    widget, hand = open_segment()
    for name in clicked:
        if name not in viewer.layers:
            viewer.add_image(nuclei.image[:-1], name=name)
        viewer.layers.selection.active = viewer.layers[name]
        hand.click(nuclei.nucleus()[1])
        answered(widget)
        segmenter = widget.segmenter
        assert segmenter is not None
        until(lambda segmenter=segmenter: len(segmenter.view.layers) == 2)
    viewer.add_image(nuclei.image[:-2], name="other")
    viewer.layers.selection.active = viewer.layers["one"]
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    rest()
    assert list(viewer.layers) == []
    assert widget.segmenter is None


def test_a_session_is_recovered_and_replays(
    viewer: Any, open_segment: Open, nuclei: Nuclei, tmp_path: Path
) -> None:
    image = viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    for rank in (0, 1):
        hand.click(nuclei.nucleus(rank)[1])
        answered(widget)
        if rank == 0:
            hand.key(Qt.Key.Key_M)
            hand.key(Qt.Key.Key_C)
    before = objects(widget).copy()
    state = widget.segmenter.session.state  # type: ignore[union-attr]
    until(lambda: widget.controller.recovery._saves)
    widget.controller.recovery.save_now()
    (path,) = sessions_directory().glob("*.samsession")
    copied = tmp_path / path.name
    shutil.copy(path, copied)  # what a process that is killed leaves
    widget.controller.close()
    path.unlink()
    shutil.copy(copied, sessions_directory() / "left.samsession")
    viewer.layers.clear()
    viewer.add_image(nuclei.image, name="opened again")
    again, hand = open_segment()
    until(lambda: again._offered is not None)
    assert "1 committed, 1 still open" in again._offer_label.text()
    again.restore()
    assert again.segmenter is not None
    assert again.segmenter.session.state == state
    np.testing.assert_array_equal(objects(again), before)
    current = np.asarray(again.segmenter.view.current.data)  # type: ignore[union-attr]
    assert (current > 0).sum() == state.drafts[0].mask.area  # type: ignore[union-attr]
    assert not (sessions_directory() / "left.samsession").exists()
    answerer = again.segmenter.asker.answerer()
    assert all(entry.is_same for entry in replay(again.segmenter.session.state, answerer.answer))
    hand.click(nuclei.nucleus(2)[1], CTRL)
    answered(again)
    hand.key(Qt.Key.Key_C)
    assert objects(again).max() == 2
    assert image not in viewer.layers


def test_closing_leaves_the_viewer_as_it_was(
    viewer: Any, open_segment: Open, nuclei: Nuclei
) -> None:
    viewer.add_image(nuclei.image)
    zooms = list(viewer.mouse_double_click_callbacks)
    drags = list(viewer.mouse_drag_callbacks)
    widget, hand = open_segment()
    hand.click(nuclei.nucleus()[1])
    answered(widget)
    assert zooms != list(viewer.mouse_double_click_callbacks)
    widget.controller.close()
    assert list(viewer.mouse_double_click_callbacks) == zooms
    assert list(viewer.mouse_drag_callbacks) == drags
    assert [role_of(layer) for layer in viewer.layers] == [None, "objects"]
    assert not [t for t in threading.enumerate() if "autosave" in t.name]
    hand.click(nuclei.nucleus()[1])
    hand.key(Qt.Key.Key_C)
    assert not np.asarray(viewer.layers[1].data).any()


def test_removing_the_dock_ends_the_work(viewer: Any, open_segment: Open, nuclei: Nuclei) -> None:
    viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    controller = widget.controller
    hand.click(nuclei.nucleus()[1])  # the model is at work
    viewer.window.remove_dock_widget(widget)
    del widget
    until(lambda: controller.segmenter is None)
    assert [role_of(layer) for layer in viewer.layers] == [None, "objects"]
    assert not [t for t in threading.enumerate() if "autosave" in t.name]


def test_hand_painting_is_left_alone(viewer: Any, open_segment: Open, nuclei: Nuclei) -> None:
    viewer.add_image(nuclei.image)
    widget, hand = open_segment()
    layer = widget.segmenter.objects  # type: ignore[union-attr]
    viewer.layers.selection.active = layer
    layer.mode = "paint"
    layer.selected_label = 9
    hand.click((100, 100))
    assert drafts(widget) == ()
    assert (objects(widget) == 9).any()


def test_opened_from_the_menu_it_knows_its_layers_again(
    viewer: Any, nuclei: Nuclei, tmp_path: Path
) -> None:
    viewer.add_image(nuclei.image, name="nuclei")
    _, widget = viewer.window.add_plugin_dock_widget("sam-plugins", "Segment")
    segmenter = widget.segmenter
    hand = Hand(viewer)
    hand.settle()
    truth, centre = nuclei.nucleus()
    hand.hover(centre)
    hand.click(centre)
    answered(widget)
    viewer.layers.selection.active = viewer.layers[-1]
    viewer.layers.selection.active = viewer.layers["nuclei"]
    assert widget.segmenter is segmenter
    assert len(widget.controller.segmenters) == 1
    assert iou(mask_of(drafts(widget)[0].mask, truth.shape), truth) > 0.6
    hand.key(Qt.Key.Key_C)
    assert objects(widget).max() == 1
    widget.controller.close()
