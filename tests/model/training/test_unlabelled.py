"""Pictures without labels: found, read, split and drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.unlabelled_pictures import write_pictures, write_stack

from sam_plugins.errors import DatasetError, UnreadableImageError, UnusableImageError
from sam_plugins.model.training.unlabelled import (
    PLANES_OF_A_STACK,
    UnlabelledPictures,
    pictures_of_step,
)


def test_pictures_of_any_format_are_rgb_and_stacks_give_planes(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    paths.append(write_stack(tmp_path / "stack.tif", 20))
    pictures = UnlabelledPictures.open([*paths, paths[0], tmp_path / "." / "0.png"])
    assert len(pictures) == 2 + PLANES_OF_A_STACK  # a file that is named twice counts once
    assert all(pictures[i].dtype == np.uint8 and pictures[i].shape[2] == 3 for i in range(10))
    assert [file.plane.get("Z") for file in pictures.files[2:]] == [0, 3, 5, 8, 11, 14, 16, 19]
    assert np.array_equal(pictures[0], np.asarray(Image.open(paths[0])))


def test_what_is_not_kept_is_read_again_and_is_the_same(tmp_path: Path) -> None:
    paths = [*write_pictures(tmp_path, 3), write_stack(tmp_path / "stack.tif", 3)]
    kept = UnlabelledPictures.open(paths, max_side=40)
    read = UnlabelledPictures.open(paths, max_side=40, memory_bytes=0)
    assert kept.digest == read.digest
    assert kept[0].shape == (30, 40, 3)
    assert all(np.array_equal(kept[i], read[i]) for i in range(len(kept)))
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(UnusableImageError, match=r"1\.png was changed while it was learned from"):
        read[1]
    assert kept[1] is not None


def test_what_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    tifffile.imwrite(tmp_path / "seven.tif", np.ones((7, 20, 20), np.uint8),
                     photometric="minisblack", metadata={"axes": "CYX"})  # fmt: skip
    bad = [tmp_path / "broken.png", tmp_path / "seven.tif"]
    failed: dict[str, str] = {}
    pictures = UnlabelledPictures.open(
        [bad[0], *paths, bad[1]],
        on_failure=lambda path, error: failed.update({path.name: str(error)}),
    )
    assert len(pictures) == 2
    assert list(failed) == ["broken.png", "seven.tif"]
    assert "say which channels to show" in failed["seven.tif"]
    assert len(UnlabelledPictures.open([bad[1]], channels={"red": 6, "green": 0})) == 1
    with pytest.raises(UnreadableImageError, match=r"cannot read .*broken\.png"):
        UnlabelledPictures.open(bad)
    with pytest.raises(DatasetError, match=r"no picture to learn from \(1 named, none can be read"):
        UnlabelledPictures.open(bad[:1], on_failure=lambda path, error: None)
    with pytest.raises(DatasetError, match=r"no picture to learn from \(0 named"):
        UnlabelledPictures.open([])


def test_what_is_held_out_follows_from_the_pixels(tmp_path: Path) -> None:
    paths = [*write_pictures(tmp_path / "a", 6), write_stack(tmp_path / "stack.tif", 4)]
    pictures = UnlabelledPictures.open(paths)
    learned, held_out = pictures.split(0.3)
    assert len(learned) + len(held_out) == 10
    assert {file.path for file in held_out.files}.isdisjoint(file.path for file in learned.files)
    assert len({file.path for file in held_out.files}) == 2
    elsewhere = [path.rename(path.with_name(f"{9 - i}x.png")) for i, path in enumerate(paths[:6])]
    _, again = UnlabelledPictures.open([*elsewhere, paths[6]]).split(0.3)
    assert sorted(f.digest for f in again.files) == sorted(f.digest for f in held_out.files)
    assert len(pictures.split(0.0)[1]) == 0
    assert len(UnlabelledPictures.open(paths[6:]).split(0.5)[1]) == 0  # one file is too few


def test_every_picture_comes_once_before_one_comes_again() -> None:
    steps = [pictures_of_step(step, 3, 7, seed=1) for step in range(14)]
    drawn = [number for step in steps for number in step]
    for start in range(0, 42, 7):
        assert sorted(drawn[start : start + 7]) == list(range(7))
    assert Counter(drawn).most_common()[-1][1] == 6
    assert drawn[:7] != drawn[7:14]
    assert steps[5] == pictures_of_step(5, 3, 7, seed=1)
    assert steps != [pictures_of_step(step, 3, 7, seed=2) for step in range(14)]
