"""From what people name to images and the names of their results."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_plugins.cli.inputs import find_images, plan_jobs, result_name
from sam_plugins.errors import UnreadableImageError
from sam_plugins.model.io.images import read_image


def test_names_of_results() -> None:
    assert result_name(Path("x/a.tif")) == "a"
    assert result_name(Path("x/a.OME.TIFF")) == "a"
    assert result_name(Path("x/a.ome.zarr")) == "a"
    assert result_name(Path("x/.ome.tif")) == ".ome"


def test_a_zarr_folder_is_one_image(tmp_path: Path) -> None:
    import zarr

    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((4, 4), np.uint8))
    (tmp_path / "plain").mkdir()
    (tmp_path / ".hidden.png").touch()
    assert find_images(str(tmp_path / "a.zarr")) == [tmp_path / "a.zarr"]
    assert find_images(str(tmp_path)) == [tmp_path / "a.zarr"]
    with pytest.raises(UnreadableImageError, match="no image in the folder"):
        find_images(str(tmp_path / "plain"))


def test_a_folder_has_the_pictures_that_are_read_when_they_are_named(tmp_path: Path) -> None:
    named = sorted(tmp_path / f"a{suffix}" for suffix in (".bmp", ".gif", ".JPG", ".png", ".webp"))
    for path in named:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
        assert read_image(path).shape[:2] == (4, 4)
    (tmp_path / "notes.txt").touch()
    assert find_images(str(tmp_path)) == named


def test_brackets_in_real_names_are_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").touch()
    assert find_images(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]


def test_a_name_of_nothing_is_told_before_any_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"no\.png: no such file; check the name"):
        find_images(str(tmp_path / "no.png"))


def test_naming_a_picture_twice_is_no_clash(tmp_path: Path) -> None:
    jobs, clashes = plan_jobs([Path("a.png"), Path("a.png")], tmp_path)
    assert [job.image for job in jobs] == [Path("a.png")]
    assert clashes == []


def test_two_spellings_of_a_path_are_no_clash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    images = [tmp_path / "a.png", Path("../a.png"), Path("../below/../a.png")]
    jobs, clashes = plan_jobs(images, tmp_path)
    assert [job.image for job in jobs] == images[:1]
    assert clashes == []


def test_pictures_that_would_write_the_same_files_have_no_job(tmp_path: Path) -> None:
    images = [Path("a.png"), Path("c.png"), Path("b/A.tif"), Path("b/a.ome.tif")]
    jobs, clashes = plan_jobs(images, tmp_path)
    assert [job.image for job in jobs] == [Path("c.png")]
    assert [image for image, _ in clashes] == [images[0], *images[2:]]
    first = str(clashes[0][1]).replace("\\", "/")
    assert re.match(r"a\.png and b/A\.tif, b/a\.ome\.tif would both be written as a_labels", first)
