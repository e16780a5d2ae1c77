"""Pool, held-out and test pictures: apart, and cut where they are large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.simulated_pictures import prepare_pictures
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import LabelledFile


def write(folder: Path, name: str, objects: int, size: int = 40) -> None:
    """Write a picture with so many objects of four pixels each, no picture like another."""
    labels = np.zeros((size, size), np.uint8)
    for number in range(objects):
        y, x = divmod(3 * number, size - 2)
        labels[3 * y : 3 * y + 2, x : x + 2] = number + 1
    for kind, pixels in (("images", labels * 3), ("labels", labels)):
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


@pytest.fixture
def files(tmp_path: Path) -> list[LabelledFile]:
    for number in range(6):
        write(tmp_path, f"p{number}", 3)
    write(tmp_path, "empty", 0)
    write(tmp_path, "full", 30)
    write(tmp_path, "large", 14, size=80)
    return list_folder_pair(tmp_path / "images", tmp_path / "labels")


def test_every_picture_is_in_one_part(files: list[LabelledFile], tmp_path: Path) -> None:
    parts = prepare_pictures(
        files, tmp_path / "crops", held_out=2, test=1, crop=40, max_objects=20, seed=3
    )
    assert (len(parts.held_out), len(parts.test)) == (2, 1)
    every = [file.id for part in (parts.pool, parts.held_out, parts.test) for file in part]
    assert len(set(every)) == len(every)
    assert not {"empty", "full"} & set(every)
    assert parts.sets == ("images",)
    again = prepare_pictures(
        files, tmp_path / "again", held_out=2, test=1, crop=40, max_objects=20, seed=3
    )
    assert [file.id for file in again.pool] == [file.id for file in parts.pool]
    few = prepare_pictures(
        files, tmp_path / "few", held_out=1, test=1, pool=2, crop=40, max_objects=20
    )
    assert len(few.pool) == 2


def test_large_pictures_are_cut_and_their_crops_stay_together(
    files: list[LabelledFile], tmp_path: Path
) -> None:
    (large,) = [file for file in files if file.id == "large"]
    whole = large.read()
    for seed in range(4):
        parts = prepare_pictures(
            files, tmp_path / f"crops-{seed}", held_out=1, test=1, crop=40, seed=seed
        )
        homes = [
            any(file.id.startswith("large_") for file in part)
            for part in (parts.pool, parts.held_out, parts.test)
        ]
        assert sum(homes) <= 1
    crops = [file for file in parts.pool if file.id.startswith("large_")]
    for crop in crops:
        read = crop.read()
        y, x = (int(part[1:]) for part in crop.id.split("_")[1:])
        assert np.array_equal(read.labels, whole.labels[y : y + 40, x : x + 40])
        assert np.array_equal(read.image, whole.image[y : y + 40, x : x + 40])
        assert read.labels.any()


def test_the_pool_may_come_from_elsewhere(files: list[LabelledFile], tmp_path: Path) -> None:
    parts = prepare_pictures(
        files[:4], tmp_path / "crops", held_out=1, test=2, crop=200, pool_files=files[4:]
    )
    assert {file.id for file in parts.test} <= {file.id for file in files[:4]}
    rest = {file.id for file in (*parts.pool, *parts.held_out)}
    assert rest <= {file.id for file in files[4:]}


def test_too_few_pictures_are_told(files: list[LabelledFile], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="9 test pictures, 2 held-out ones and a pool need more"):
        prepare_pictures(files, tmp_path / "crops", held_out=2, test=9, crop=200)
