"""A folder of real pictures in a real window."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.napari_plugin.helpers import keep_screenshot, layer_of, open_widget, put_labels

from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.napari_plugin.folder import PictureFolder
from sam_plugins.napari_plugin.folder_pictures import read_layer
from sam_plugins.napari_plugin.samples import nuclei_3d
from sam_plugins.napari_plugin.session.planes import Plane

pytestmark = pytest.mark.gui


@pytest.fixture
def folder(test_data: Path, tmp_path: Path) -> Path:
    """Three fluorescence pictures."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for file in list_manifest_files(test_data, ["dsb2018"], split="val")[:3]:
        shutil.copy(file.image_path, pictures)
    return pictures


def turned(widget: Any, qtbot: Any) -> None:
    """Wait until a picture is open, or could not be."""
    qtbot.waitUntil(lambda: not widget.is_turning and not widget.turning.is_running, timeout=20_000)


def open_folder(viewer: Any, qtbot: Any, folder: Path, count: int = 3) -> Any:
    """Open **Folder** at the first of some pictures."""
    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    qtbot.waitUntil(lambda: widget.index >= 0 and not widget.is_turning, timeout=20_000)
    assert widget.list.count() == count
    return widget


def test_labels_are_saved_on_the_way_and_come_back(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_folder(viewer, qtbot, folder)
    assert widget.index == 0
    objects = layer_of(viewer, "objects")
    objects.data[5:20, 5:20] = 7
    widget.step(1)
    turned(widget, qtbot)
    assert widget.index == 1
    assert len(viewer.layers) == 2
    saved = tifffile.imread(widget.pictures.labels_path(0))
    assert (saved[5:20, 5:20] == 7).all()
    assert np.count_nonzero(saved) == 225
    widget.step(-1)
    turned(widget, qtbot)
    assert (layer_of(viewer, "objects").data[5:20, 5:20] == 7).all()
    widget.done()
    qtbot.waitUntil(lambda: widget.index == 1, timeout=20_000)
    assert widget.index == 1
    assert [widget.list.item(row).text()[0] for row in range(3)] == ["●", "○", "○"]
    widget.step(-1)
    turned(widget, qtbot)
    assert widget.index == 1  # what is done is skipped
    viewer.window._qt_window.resize(1400, 900)
    keep_screenshot(viewer, qtbot, "folder")
    again = open_widget(viewer, "Folder")
    assert again is widget or again.folder.text() == str(folder)


def test_the_next_picture_is_encoded_before_one_comes_to_it(
    viewer: Any, qtbot: Any, folder: Path
) -> None:
    from sam_plugins.model.engine.project.encoding import usual_cache

    widget = open_folder(viewer, qtbot, folder)
    assert widget.prefetching.wait(120)
    assert usual_cache().disk_bytes > 0


def test_the_most_useful_picture_is_one_that_is_new(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_folder(viewer, qtbot, folder)
    layer_of(viewer, "objects").data[5:20, 5:20] = 1
    widget.jump()
    assert widget.job.wait(240)
    qtbot.waitUntil(lambda: widget.index != 0, timeout=5000)
    assert widget.pictures.labels_path(0).exists()


def test_a_disk_that_cannot_be_written_keeps_the_picture_open(
    viewer: Any, qtbot: Any, folder: Path
) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_folder(viewer, qtbot, folder)
    (folder / "labels").write_text("in the way")
    layer_of(viewer, "objects").data[5:20, 5:20] = 1
    widget.step(1)
    turned(widget, qtbot)
    assert widget.index == 0
    assert "labels" in notification_manager.records[-1].message


def test_an_empty_folder_is_refused(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    from napari.utils.notifications import notification_manager

    (tmp_path / "._left_by_macos.png").write_bytes(b"\0")
    widget = open_widget(viewer, "Folder")
    widget.open_folder(tmp_path)
    turned(widget, qtbot)
    assert "no picture in" in notification_manager.records[-1].message


def test_closing_the_dock_saves(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_folder(viewer, qtbot, folder)
    layer_of(viewer, "objects").data[5:20, 5:20] = 3
    path = widget.pictures.labels_path(0)
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.waitUntil(path.exists, timeout=5000)
    assert tifffile.imread(path)[10, 10] == 3


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """A stack of nuclei, a picture of two channels, and a stack of two channels on a disk."""
    (volume, _, _) = nuclei_3d()[0]
    folder = tmp_path / "stacks"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", volume[:12], metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "b.tif", volume[:2], metadata={"axes": "CYX"})
    both = np.stack([volume[:6], volume[6:12]], 1)
    tifffile.imwrite(folder / "c.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    return folder


def test_a_stack_opens_as_a_stack_and_its_labels_come_back(
    viewer: Any, qtbot: Any, stacks: Path
) -> None:
    widget = open_folder(viewer, qtbot, stacks)
    image, objects = viewer.layers
    volume = tifffile.imread(stacks / "a.tif")
    np.testing.assert_array_equal(image.data, volume)
    assert objects.data.shape == volume.shape
    assert viewer.dims.current_step[0] == 5  # the middle one of 12
    objects.data[3:8, 10:30, 10:30] = 4
    viewer.window._qt_window.resize(1400, 900)
    keep_screenshot(viewer, qtbot, "folder-stack")
    widget.step(1)
    turned(widget, qtbot)
    saved = tifffile.imread(widget.pictures.labels_path(0))
    assert saved.shape == volume.shape
    assert np.count_nonzero(saved == 4) == 5 * 20 * 20
    widget.step(-1)
    turned(widget, qtbot)
    np.testing.assert_array_equal(layer_of(viewer, "objects").data, saved)


def test_channels_are_no_slices_and_segment_knows_them(
    viewer: Any, qtbot: Any, stacks: Path
) -> None:
    widget = open_folder(viewer, qtbot, stacks)
    for index, shape in ((1, (192, 192)), (2, (6, 192, 192))):
        widget.open(index)
        turned(widget, qtbot)
        assert layer_of(viewer, "objects").data.shape == shape
        assert len(viewer.layers[0].data) == 2
    segment = open_widget(viewer, "Segment")
    assert segment.segmenter.objects is layer_of(viewer, "objects")
    assert segment.segmenter.viewpoint.source.channel_count == 2
    stack = tifffile.imread(stacks / "c.tif")
    np.testing.assert_array_equal(viewer.layers[0].data, np.moveaxis(stack, 1, 0))


def test_the_window_lives_while_a_picture_is_read(
    viewer: Any, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_folder(viewer, qtbot, folder)
    assert widget.prefetching.wait(120)
    began, goes_on = threading.Event(), threading.Event()

    def slow_read(*given: Any) -> Any:
        began.set()
        assert goes_on.wait(20)
        return read_layer(*given)

    monkeypatch.setattr("sam_plugins.napari_plugin.folder.read_layer", slow_read)
    widget.open(2)
    assert began.wait(10)
    assert widget.index == 0
    assert not widget.buttons["next"].isEnabled()
    layer_of(viewer, "objects").data[:9, :9] = 5  # meanwhile somebody paints
    qtbot.wait(50)
    goes_on.set()
    qtbot.waitUntil(lambda: widget.index == 2, timeout=20_000)
    assert widget.buttons["next"].isEnabled()
    assert np.count_nonzero(tifffile.imread(widget.pictures.labels_path(0)) == 5) == 81


def test_the_next_picture_is_there_without_reading_it_again(
    viewer: Any, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_folder(viewer, qtbot, folder)
    qtbot.waitUntil(lambda: widget._prepared is not None, timeout=120_000)

    def refuse(*_: Any) -> Any:
        raise AssertionError("it was read already")

    monkeypatch.setattr("sam_plugins.napari_plugin.folder.read_layer", refuse)
    widget.step(1)
    qtbot.waitUntil(lambda: widget.index == 1, timeout=20_000)


def test_large_labels_are_written_into_the_folder_as_people_work(
    viewer: Any, qtbot: Any, stacks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_plugins.napari_plugin.label_arrays.LARGEST_IN_MEMORY", 1 << 20)
    widget = open_folder(viewer, qtbot, stacks)
    path = stacks / "labels" / "a_labels.zarr"
    assert path.is_dir()
    segment = open_widget(viewer, "Segment")
    plane = Plane((1, 2), (4,))
    put_labels(segment.segmenter.session, plane, np.full((192, 192), 6, np.uint32))
    assert (np.asarray(zarr.open_array(path, mode="r")[4]) == 6).all()
    again = PictureFolder(stacks)
    assert [again.state(index).value for index in range(3)] == ["begun", "new", "new"]
    widget.step(1)
    turned(widget, qtbot)
    assert PictureFolder(stacks).state(1).value == "new"
    widget.step(-1)
    turned(widget, qtbot)
    assert (np.asarray(layer_of(viewer, "objects").data[4]) == 6).all()


def test_labels_of_another_shape_are_not_written_over(
    viewer: Any, qtbot: Any, folder: Path
) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_folder(viewer, qtbot, folder)
    path = widget.pictures.labels_path(2)
    path.parent.mkdir()
    tifffile.imwrite(path, np.ones((7, 9), np.uint16))
    widget.open(2)
    turned(widget, qtbot)
    assert widget.index == 0
    assert "move it away" in notification_manager.records[-1].message
    assert tifffile.imread(path).shape == (7, 9)
