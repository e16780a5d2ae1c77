"""One plane and one level are chosen from what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tests.model.io.reading import GREY, RGB, STACK, check

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.images import read_image


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (None, r"is a stack along Z \(5 planes\); choose one plane, such as Z=0"),
        (5, r"has the planes 0 to 4 along Z, got 5"),
        (-1, r"has the planes 0 to 4 along Z, got -1"),
        ({"T": 0}, r"has no stack axis 'T'; it has Z \(5 planes\)"),
    ],
)
def test_wrong_planes(tmp_path: Path, plane: Any, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"})
    with pytest.raises(UnusableImageError, match=message):
        read_image(tmp_path / "a.tif", plane=plane)


@pytest.mark.parametrize(
    "plane",
    [1, np.int64(1), np.uint8(1), np.array(1), {"Z": np.int16(1)}, {"z": 1}],
    ids=str,
)
def test_planes_by_any_whole_number(tmp_path: Path, plane: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"})
    check(tmp_path / "a.tif", STACK[1], plane=plane)


@pytest.mark.parametrize(
    "plane",
    [
        "1",
        1.0,
        1.5,
        True,
        np.True_,
        np.float64(1),
        [1],
        {0: 1},
        {"Z": None},
        {"Z": 1.9},
        {"Z": True},
    ],
    ids=str,
)
def test_planes_that_are_no_numbers(tmp_path: Path, plane: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"})
    message = (
        r"^plane must be a whole number, or a mapping of axis letters to whole numbers such as "
        r'\{"Z": 5, "T": 0\}, got '
    )
    with pytest.raises(TypeError, match=message):
        read_image(tmp_path / "a.tif", plane=plane)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": 5}, r"^axes must be a string of letters such as 'ZYX', got 5$"),
        ({"axes": ("C", "Y", "X")}, r"^axes must be a string of .*, got \('C', 'Y', 'X'\)$"),
        ({"level": "0"}, r"^level must be a whole number, 0 for the finest, got '0'$"),
        ({"level": True}, r"^level must be a whole number, 0 for the finest, got True$"),
        ({"level": None}, r"^level must be a whole number, 0 for the finest, got None$"),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.zarr"])
def test_arguments_of_wrong_types_are_no_damage(
    tmp_path: Path, name: str, arguments: dict[str, Any], message: str
) -> None:
    if name == "a.zarr":
        zarr.create_array(tmp_path / name, data=GREY)
    elif name == "a.png":
        Image.fromarray(GREY).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, GREY)
    check(tmp_path / name, GREY, level=np.int64(0))
    with pytest.raises(TypeError, match=message):
        read_image(tmp_path / name, **arguments)


def test_the_first_plane_of_the_only_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[:1, None], metadata={"axes": "TZYX"})
    check(tmp_path / "a.tif", STACK[0], plane=0, axes="TZYX")
    with pytest.raises(UnusableImageError, match=r"a\.tif has the planes 0 to 0 along T, got 1"):
        read_image(tmp_path / "a.tif", plane=1, axes="TZYX")


def test_one_number_for_two_axes(tmp_path: Path) -> None:
    data = np.zeros((2, 3, 8, 9), np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    with pytest.raises(UnusableImageError, match=r"one plane number .*T \(2 planes\), Z \(3 plan"):
        read_image(tmp_path / "a.zarr", axes="TZYX", plane=1)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(UnusableImageError, match=r"only for one stack axis, got none; name the"):
        read_image(tmp_path / "a.png", plane=0)


def test_pictures_have_one_level(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    zarr.create_array(tmp_path / "a.zarr", data=GREY)
    for name in ("a.png", "a.zarr"):
        with pytest.raises(
            UnusableImageError,
            match=r"is no pyramid: it has level 0 alone, got level 1; leave the level",
        ):
            read_image(tmp_path / name, level=1)
