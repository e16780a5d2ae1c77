"""A folder of real pictures in a real window."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.napari_plugin.helpers import keep_screenshot, layer_of, open_widget

from sam_plugins.model.io.labelled import list_manifest_files

pytestmark = pytest.mark.gui


@pytest.fixture
def folder(test_data: Path, tmp_path: Path) -> Path:
    """Three fluorescence pictures."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for file in list_manifest_files(test_data, ["dsb2018"], split="val")[:3]:
        shutil.copy(file.image_path, pictures)
    return pictures


def test_labels_are_saved_on_the_way_and_come_back(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    assert widget.index == 0
    objects = layer_of(viewer, "objects")
    objects.data[5:20, 5:20] = 7
    widget.step(1)
    assert widget.index == 1
    assert len(viewer.layers) == 2
    saved = tifffile.imread(widget.pictures.labels_path(0))
    assert (saved[5:20, 5:20] == 7).all()
    assert np.count_nonzero(saved) == 225
    widget.step(-1)
    assert (layer_of(viewer, "objects").data[5:20, 5:20] == 7).all()
    widget.done()
    assert widget.index == 1
    assert [widget.list.item(row).text()[0] for row in range(3)] == ["●", "○", "○"]
    widget.step(-1)
    assert widget.index == 1  # what is done is skipped
    viewer.window._qt_window.resize(1400, 900)
    keep_screenshot(viewer, qtbot, "folder")
    again = open_widget(viewer, "Folder")
    assert again is widget or again.folder.text() == str(folder)


def test_the_next_picture_is_encoded_before_one_comes_to_it(
    viewer: Any, qtbot: Any, folder: Path
) -> None:
    from sam_plugins.model.engine.project.encoding import usual_cache

    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    assert widget.prefetching.wait(120)
    assert usual_cache().disk_bytes > 0


def test_the_most_useful_picture_is_one_that_is_new(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    layer_of(viewer, "objects").data[5:20, 5:20] = 1
    widget.jump()
    assert widget.job.wait(240)
    qtbot.waitUntil(lambda: widget.index != 0, timeout=5000)
    assert widget.pictures.labels_path(0).exists()


def test_a_disk_that_cannot_be_written_keeps_the_picture_open(viewer: Any, folder: Path) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    (folder / "labels").write_text("in the way")
    layer_of(viewer, "objects").data[5:20, 5:20] = 1
    widget.step(1)
    assert widget.index == 0
    assert "labels" in notification_manager.records[-1].message


def test_an_empty_folder_is_refused(viewer: Any, tmp_path: Path) -> None:
    from napari.utils.notifications import notification_manager

    widget = open_widget(viewer, "Folder")
    widget.open_folder(tmp_path)
    assert "no picture in" in notification_manager.records[-1].message


def test_closing_the_dock_saves(viewer: Any, qtbot: Any, folder: Path) -> None:
    widget = open_widget(viewer, "Folder")
    widget.open_folder(folder)
    layer_of(viewer, "objects").data[5:20, 5:20] = 3
    path = widget.pictures.labels_path(0)
    viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    qtbot.waitUntil(path.exists, timeout=5000)
    assert tifffile.imread(path)[10, 10] == 3
