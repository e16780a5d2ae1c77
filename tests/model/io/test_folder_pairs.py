"""Folders of pictures and of their labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import read_each


def test_folder_pair(data_dir: Path, tmp_path: Path) -> None:
    images, labels = tmp_path / "mine", tmp_path / "labels"
    shutil.copytree(data_dir / "cells/val/images", images)
    shutil.copytree(data_dir / "cells/val/labels", labels)
    (images / "v.tif").unlink()
    (images / "notes.txt").write_text("no picture")
    (labels / "b.png").rename(labels / "b_labels.png")
    files = list_folder_pair(images, labels, complete=False)
    assert [(file.id, file.set_name, file.complete) for file in files] == [
        ("a", "mine", False),
        ("b", "mine", False),
    ]
    assert files[1].read().labels.max() == 3

    (labels / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"expected labels of the same name .* none for a\.png;"):
        list_folder_pair(images, labels)
    with pytest.raises(DatasetError, match="must be a folder of pictures; there is no such folder"):
        list_folder_pair(images, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no picture in .*empty; expected files that end in"):
        list_folder_pair(tmp_path / "empty", labels)


def test_further_annotators_are_read_where_they_drew(tmp_path: Path) -> None:
    sizes = {"pictures": "ab", "first": "ab", "second": "a"}
    for folder, names in sizes.items():
        (tmp_path / folder).mkdir()
        for name in names:
            value = 1 + len(folder)
            Image.fromarray(np.full((4, 5), value, np.uint8)).save(
                tmp_path / folder / f"{name}.png"
            )
    folders = tmp_path / "pictures", tmp_path / "first"
    a, b = read_each(list_folder_pair(*folders, others=[tmp_path / "second"]))
    assert [int(labels.max()) for labels in (a.labels, *a.other_labels)] == [6, 7]
    assert b.other_labels == ()
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "second" / "a.png")
    with pytest.raises(
        DatasetError, match=r"of all annotators must have the same size, got \(4, 5"
    ):
        list_folder_pair(*folders, others=[tmp_path / "second"])[0].read()


def _pictures(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        Image.fromarray(np.ones((4, 5), np.uint8)).save(folder / name)
    return folder


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    pictures = _pictures(tmp_path / "p", "a.png")
    (pictures / "._a.png").write_bytes(b"of macOS")
    assert [one.id for one in list_folder_pair(pictures, _pictures(tmp_path / "l", "a.png"))] == [
        "a"
    ]


def test_names_that_end_like_labels(tmp_path: Path) -> None:
    pictures = _pictures(tmp_path / "p", "a_mask.png", "b.ome.tif")
    labels = _pictures(tmp_path / "l", "a_mask.png", "b_labels.tif")
    assert [one.label_path.name for one in list_folder_pair(pictures, labels)] == [
        "a_mask.png",
        "b_labels.tif",
    ]


def test_pictures_are_not_their_own_labels(tmp_path: Path) -> None:
    pictures = _pictures(tmp_path / "p", "a.png")
    with pytest.raises(DatasetError, match=r"must lie in two folders, got .*p for both; name the"):
        list_folder_pair(pictures, tmp_path / "p" / ".." / "p")


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    pictures = _pictures(tmp_path / "p", "a.png", "a.tif")
    labels = _pictures(tmp_path / "l", "a.png")
    with pytest.raises(DatasetError, match=r"a\.png and a\.tif in .*p have the same name up to"):
        list_folder_pair(pictures, labels)
    with pytest.raises(DatasetError, match=r"a\.png must be a folder of pictures; it is a file"):
        list_folder_pair(labels / "a.png", labels)
