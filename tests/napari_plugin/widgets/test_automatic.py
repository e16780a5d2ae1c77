"""Automatic segmentation in a real window, with the shipped model and real pictures."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from tests.napari_plugin.helpers import keep_screenshot, layer_of, open_widget, row_of_coins

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.images import read_image
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.large.automatic import segment_large
from sam_plugins.model.large.whole import segment
from sam_plugins.model.weights.paths import proposals_directory
from sam_plugins.napari_plugin.automatic_params import FindParams
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.images import ImageSource, look_at, robust_limits
from sam_plugins.napari_plugin.layers import set_role
from sam_plugins.napari_plugin.linked import whole_stack
from sam_plugins.napari_plugin.paces import KnownPaces
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.settings import read_settings, settings_path
from sam_plugins.napari_plugin.widgets import automatic as widgets

Picture = npt.NDArray[Any]

pytestmark = pytest.mark.gui


@pytest.fixture
def nuclei(test_data: Path) -> Picture:
    """A fluorescence picture with nuclei."""
    return read_image(list_manifest_files(test_data, ["dsb2018"], split="val")[0].image_path)


def finish(widget: Any, qtbot: Any, timeout: int = 120_000) -> None:
    qtbot.waitUntil(lambda: widget.job is not None and not widget.job.is_running, timeout=timeout)
    qtbot.waitUntil(
        lambda: widget._painting is None or not widget._painting.is_running, timeout=20_000
    )


def count(layer: Any) -> int:
    return len(np.unique(layer.data)) - 1


def test_objects_equal_those_of_the_library_and_thresholds_act_without_the_model(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    image = viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    widget = open_widget(viewer, "Automatic")
    widget.run()
    finish(widget, qtbot)
    preview = layer_of(viewer, "automatic")
    expected = segment(nuclei, current_model().load()).labels
    assert expected.max() > 3
    # All but single pixels: the cache keeps embeddings in float16.
    differs = (preview.data > 0) != (expected > 0)
    assert differs.sum() < 1e-3 * (expected > 0).sum()
    assert count(preview) == expected.max()

    scores = segment(nuclei, current_model().load()).scores
    limit = float(np.sort(scores)[len(scores) // 2])
    started = time.monotonic()
    widget.keeping.set(min_quality=limit)
    qtbot.waitUntil(lambda: count(preview) < expected.max(), timeout=5000)
    assert time.monotonic() - started < 2
    assert 0 < count(preview) <= np.count_nonzero(scores >= limit - 0.01)
    widget.keeping.set(min_quality=0.0)
    qtbot.waitUntil(lambda: count(preview) == expected.max(), timeout=5000)
    viewer.window._qt_window.resize(1400, 900)
    keep_screenshot(viewer, qtbot, "automatic")
    del image


def added(widget: Any, qtbot: Any) -> int:
    """Add what is shown to the objects, and return how many came in."""
    widget.add_to_objects()
    qtbot.waitUntil(lambda: not widget.is_adding, timeout=30_000)
    return int(widget.added)


def test_committed_objects_are_not_touched_and_the_layer_can_undo(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    widget = open_widget(viewer, "Automatic")
    widget.run()
    finish(widget, qtbot)
    found = layer_of(viewer, "automatic").data.copy()
    assert added(widget, qtbot) == len(np.unique(found)) - 1
    objects = layer_of(viewer, "objects")
    assert np.array_equal(objects.data > 0, found > 0)
    before = objects.data.copy()
    mine = np.argwhere(before == 0)[:40]
    objects.data[tuple(mine.T)] = 999
    before = objects.data.copy()
    widget.run()
    finish(widget, qtbot)
    shown = count(layer_of(viewer, "automatic"))
    assert widget.add_button.text() == f"Add to objects ({shown} shown)"
    assert added(widget, qtbot) == 0  # all of them are there already
    assert np.array_equal(objects.data, before)


def test_a_reduced_picture_of_small_objects_is_looked_at_closer_unless_that_is_off(
    viewer: Any, qtbot: Any
) -> None:
    viewer.add_image(row_of_coins(), name="coins")
    mine = viewer.add_labels(np.zeros((40, 1100), np.uint32), name="mine")
    set_role(mine, "objects")
    mine.data[:, :300] = 7
    viewer.layers.selection.active = viewer.layers[0]
    settings_path().parent.mkdir(parents=True, exist_ok=True)
    settings_path().write_text('{"automatic": {"points_per_side": 16}}')  # of an earlier version
    widget = open_widget(viewer, "Automatic")
    assert widget.finding.params == FindParams(points_per_side=16, looks_closer=True)
    assert "up to ten times as long" in widget._status.text()
    widget.run()
    finish(widget, qtbot, 600_000)
    assert widget._run.tiles_done > 1
    preview = layer_of(viewer, "automatic")
    found = count(preview)
    assert found > 20
    keep_screenshot(viewer, qtbot, "automatic-closer")
    (kind,) = read_settings("automatic pace", KnownPaces()).seconds
    assert kind.endswith("closer")
    widget.keeping.set(min_quality=0.99)
    qtbot.waitUntil(lambda: count(preview) < found, timeout=60_000)
    widget.keeping.set(min_quality=0.0)
    qtbot.waitUntil(lambda: count(preview) == found, timeout=60_000)
    assert 0 < added(widget, qtbot) < found  # some are there already
    assert (mine.data[:, :300] == 7).all()

    widget.finding.set(looks_closer=False)
    assert "ten times" not in widget._status.text()
    assert not read_settings("automatic", FindParams()).looks_closer
    widget.run()
    finish(widget, qtbot)
    assert widget._run.tiles_done == 1


def test_with_segment_open_undo_takes_the_added_objects_back(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    session = open_widget(viewer, "Segment").segmenter.session
    widget = open_widget(viewer, "Automatic")
    widget.run()
    finish(widget, qtbot)
    number = added(widget, qtbot)
    objects = layer_of(viewer, "objects").data
    written = objects.copy()
    assert number == written.max() > 1
    assert session.state.next_label > number  # the next commit is another object
    session.undo()
    assert not objects.any()
    session.redo()
    assert np.array_equal(objects, written)


@pytest.mark.parametrize("axis", [0, 2])
def test_channels_are_chosen_as_in_segment(
    viewer: Any, qtbot: Any, nuclei: Picture, axis: int
) -> None:
    grey = nuclei[..., 0] if nuclei.ndim == 3 else nuclei
    noise = np.random.default_rng(0).integers(0, 255, grey.shape, np.uint8)
    channels = [noise, grey, noise, noise, noise][: 5 if axis == 0 else 2]
    viewer.add_image(np.stack(channels, axis), name="channels")
    widget = open_widget(viewer, "Automatic")
    widget.finding.set(channel_axis=axis, channels="grey=1")
    widget.run()
    finish(widget, qtbot)
    preview = layer_of(viewer, "automatic")
    assert preview.data.shape == (grey.shape if axis == 0 else (*grey.shape, 1))
    expected = segment(np.stack([grey] * 3, 2), current_model().load()).labels
    found = preview.data.reshape(grey.shape)
    assert ((found > 0) == (expected > 0)).mean() > 0.98
    assert abs(count(preview) - int(expected.max())) <= 1
    viewer.window._qt_window.resize(1400, 950)
    keep_screenshot(viewer, qtbot, f"automatic-channels-{axis}")
    assert added(widget, qtbot) > 0
    assert layer_of(viewer, "objects").data.shape == preview.data.shape
    again = open_widget(viewer, "Automatic")
    assert again is widget or again.finding.params.channel_axis == -1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["dask", "multiscale"])
def test_a_large_picture_gets_the_objects_of_the_library_and_goes_on_after_a_cancel(
    viewer: Any, qtbot: Any, nuclei: Picture, tmp_path: Path, kind: str
) -> None:
    grey = nuclei[..., 0] if nuclei.ndim == 3 else nuclei
    large = np.tile(grey, (-(-2100 // grey.shape[0]), 1))[:2100, :160]
    if kind == "dask":
        viewer.add_image(da.from_array(large, chunks=(300, 300)))
    else:
        viewer.add_image([large, large[::2, ::2]], multiscale=True)
    mine = viewer.add_labels(np.zeros(large.shape, np.uint32), name="mine")
    set_role(mine, "objects")
    mine.data[:8, :8] = 7
    widget = open_widget(viewer, "Automatic")
    viewer.layers.selection.active = viewer.layers[0]
    assert "3 pictures" in widget._status.text()
    widget.run()
    qtbot.waitUntil(lambda: widget._run.tiles_done >= 1, timeout=300_000)
    started = time.monotonic()
    widget.cancel()
    assert not widget.job.is_running
    assert widget.job.wait(60)
    finish(widget, qtbot)
    assert time.monotonic() - started < 30
    preview = layer_of(viewer, "automatic")
    assert count(preview) > 0  # what was done stays
    assert not preview.data[-300:].any()
    kept = set(proposals_directory().iterdir())
    assert kept
    times = {path: path.stat().st_mtime_ns for path in kept}

    widget.run()
    finish(widget, qtbot, 600_000)
    assert {path: path.stat().st_mtime_ns for path in kept} == times  # not asked about again
    limits = robust_limits(ImageSource([large]), Plane(), ())[0]
    expected = segment_large(large, tmp_path / "x.zarr", current_model().load(), limits=limits)
    labels = np.asarray(expected.labels())
    assert expected.count > 6
    assert np.array_equal(preview.data > 0, labels > 0)
    pairs = np.unique(np.stack([preview.data[labels > 0], labels[labels > 0]]), axis=1)
    assert pairs.shape[1] == expected.count == count(preview)  # the same objects

    scores = np.genfromtxt(expected.table, delimiter=",", names=True)["score"]
    widget.keeping.set(min_quality=float(np.median(scores)))
    qtbot.waitUntil(lambda: 0 < count(preview) < expected.count, timeout=60_000)
    finish(widget, qtbot)
    fewer = count(preview)
    assert added(widget, qtbot) == fewer
    assert (mine.data[:8, :8] == 7).all()
    assert not preview.data.any()
    assert not any(proposals_directory().iterdir())  # nobody needs them any more


def test_a_complete_run_tells_how_long_the_next_takes_on_other_days(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    viewer.add_image(nuclei[:64, :64], rgb=nuclei.ndim == 3)
    widget = open_widget(viewer, "Automatic")
    widget.run()
    finish(widget, qtbot)
    kept = read_settings("automatic pace", KnownPaces()).seconds
    assert len(kept) == 1
    another = widgets.AutomaticWidget(viewer)  # which looks what there is to compute on
    qtbot.waitUntil(lambda: "roughly" in another._status.text(), timeout=60_000)
    widget.run()  # what the model saw is known by now
    finish(widget, qtbot)
    assert read_settings("automatic pace", KnownPaces()).seconds == kept


def test_a_part_of_the_first_tile_tells_how_long_all_take(
    viewer: Any, qtbot: Any, nuclei: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = Event()

    def find(*_: object, progress: Any, **__: object) -> bool:
        progress(0, 0)
        time.sleep(1)
        progress(50, 6000)  # a half of one of sixty tiles
        assert may_end.wait(60)
        progress(6000, 6000)
        return True  # nothing of it was known before

    monkeypatch.setattr(widgets, "find_all", find)
    viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    widget = open_widget(viewer, "Automatic")
    assert "how long, the first one will tell" in widget._status.text()
    widget.run()
    qtbot.waitUntil(lambda: " min left; " in widget._status.text(), timeout=60_000)
    may_end.set()
    qtbot.waitUntil(lambda: not widget.job.is_running, timeout=5000)
    qtbot.waitUntil(lambda: "left" not in widget._status.text(), timeout=5000)
    assert "; about " in widget._status.text()


def test_a_selected_region_alone_is_segmented_on_a_scaled_image(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    viewer.add_image(nuclei, rgb=nuclei.ndim == 3, scale=(0.5, 0.5), translate=(10, 20))
    height, width = nuclei.shape[:2]
    corners = np.array([[0, 0], [0, width / 2], [height / 2, width / 2], [height / 2, 0]])
    viewer.add_shapes([corners * 0.5 + [10, 20]], shape_type="rectangle")
    widget = open_widget(viewer, "Automatic")
    widget.finding.set(where="selected shapes")
    widget.run()
    finish(widget, qtbot)
    preview = layer_of(viewer, "automatic")
    assert count(preview) > 0
    rows, columns = np.nonzero(preview.data)
    assert rows.max() <= height // 2 + 1
    assert columns.max() <= width // 2 + 1


def test_a_stack_is_segmented_from_where_one_looks_and_cancel_keeps_the_slices(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    grey = nuclei[..., 0] if nuclei.ndim == 3 else nuclei
    stack = np.stack([np.roll(grey, shift, axis=1) for shift in range(0, 240, 10)])
    viewer.add_image(stack)
    viewer.dims.set_point(0, 12)
    widget = open_widget(viewer, "Automatic")
    widget.finding.set(where="all slices")
    widget.run()
    preview = layer_of(viewer, "automatic")
    qtbot.waitUntil(lambda: widget._run.tiles_done >= 2, timeout=120_000)
    started = time.monotonic()
    widget.cancel()
    assert not widget.job.is_running
    assert widget.job.wait(30)
    ended = time.monotonic() - started
    finish(widget, qtbot)
    filled = [index for index in range(len(stack)) if preview.data[index].any()]
    assert 12 in filled
    assert 2 <= len(filled) < len(stack)
    assert ended < 10, ended  # the thread: at most one picture being encoded


def test_without_an_image_one_is_told_what_to_do(viewer: Any) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_widget(viewer, "Automatic")
    widget.run()
    assert "open one" in notification_manager.records[-1].message


def test_removing_the_image_or_closing_the_widget_ends_the_work(
    viewer: Any, qtbot: Any, nuclei: Picture
) -> None:
    image = viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    widget = open_widget(viewer, "Automatic")
    widget.run()
    viewer.layers.remove(image)
    assert not widget.job.is_running
    viewer.add_image(nuclei, rgb=nuclei.ndim == 3)
    widget.run()
    job = widget.job
    assert job.is_running
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=2000)
    assert job.wait(30)


@pytest.mark.slow
def test_objects_of_a_stack_are_linked_across_its_slices(
    viewer: Any, qtbot: Any, test_data: Path
) -> None:
    folder = test_data / "mouse_embryo_3d" / "train"
    stack = tifffile.imread(next((folder / "images").iterdir()))[12:40]
    truth = tifffile.imread(next((folder / "labels").iterdir()))[12:40]
    viewer.add_image(stack, name="embryo")
    widget = open_widget(viewer, "Automatic")
    widget.finding.set(where="all slices, linked")
    assert not widget.linking.form.native.isHidden()
    assert "28 pictures" in widget._status.text()
    widget.run()
    qtbot.waitUntil(lambda: widget.job.steps[0] > 4, timeout=120_000)
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.job.is_running, timeout=1000)
    qtbot.waitUntil(widget.add_button.isEnabled, timeout=1000)  # what is done stays
    assert widget.job.wait(10)
    widget.run()
    finish(widget, qtbot)
    preview = layer_of(viewer, "automatic").data
    hits = 0
    for number in np.unique(truth)[1:]:
        inside = truth == number
        found = np.bincount(preview[inside]).argmax()
        mask = preview == found
        hits += bool(found and (mask & inside).sum() / (mask | inside).sum() > 0.5)
    assert hits >= 4
    shown = preview.copy()
    count_before = count(layer_of(viewer, "automatic"))
    assert added(widget, qtbot) == count_before
    assert np.array_equal(layer_of(viewer, "objects").data, shown)
    assert not layer_of(viewer, "automatic").data.any()


def test_linked_slices_of_small_objects_are_looked_at_closer(viewer: Any, qtbot: Any) -> None:
    coins = row_of_coins()
    viewer.add_image(np.stack([coins] * 3), name="coins")
    widget = open_widget(viewer, "Automatic")
    widget.finding.set(where="all slices, linked")
    assert "up to ten times as long" in widget._status.text()
    widget.run()
    finish(widget, qtbot, 600_000)
    preview = layer_of(viewer, "automatic").data
    assert (preview == preview[0]).all()
    expected = segment(coins, current_model().load()).labels
    areas = np.bincount(expected.ravel())[1:]
    assert areas.min() < 20
    large_enough = 3 * areas >= widget.linking.params.min_voxels
    assert abs(len(np.unique(preview)) - 1 - large_enough.sum()) <= 1
    differs = (preview[0] > 0) != (expected > 0)
    assert differs.sum() < 0.02 * (expected > 0).sum()


def test_what_cannot_be_linked_says_why() -> None:
    source = ImageSource([np.zeros((2, 3, 64, 64), np.uint8)])
    with pytest.raises(UnusableImageError, match="stacks of three axes"):
        whole_stack(source, look_at(source, Plane((2, 3), (0, 0)), Window(0, 0, 64, 64)), [1.0] * 4)
    source = ImageSource([np.zeros((2, 3000, 64), np.uint8)])
    with pytest.raises(UnusableImageError, match=r"crop the stack.* `sam-plugins segment --stack`"):
        whole_stack(source, look_at(source, Plane((1, 2), (0,)), Window(0, 0, 3000, 64)), [1.0] * 3)
