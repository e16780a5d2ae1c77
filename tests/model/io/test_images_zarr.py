"""Zarr arrays and groups, OME-Zarr, and those that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from tests.model.io.reading import GREY, GREY16, RNG, check

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.images import is_image_folder, open_image, read_image


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (3, 40, 60), (9, 40, 60)])
def test_plain_zarr_arrays(tmp_path: Path, zarr_format: Any, shape: tuple[int, ...]) -> None:
    data = RNG.integers(0, 60000, shape, dtype=np.uint16)
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=data, zarr_format=zarr_format)
    assert is_image_folder(path)
    if shape[0] == 9:
        check(path, data[4], plane=4)
    else:
        check(path, data)


def test_named_dimensions_count(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (6, 40, 60), dtype=np.uint16)
    zarr.create_array(
        tmp_path / "a.zarr", data=data, dimension_names=["channel", "y", "x"], zarr_format=3
    )
    with open_image(tmp_path / "a.zarr") as image:
        assert image.axes == "CYX"
    array = zarr.create_array(tmp_path / "b.zarr", data=data, zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    with open_image(tmp_path / "b.zarr") as image:
        assert image.axes == "TYX"


def add_array(group: zarr.Group, name: str, data: npt.NDArray[Any]) -> None:
    """Add an array, also where ``create_array`` of a group takes no data (Zarr 3.0)."""
    group.create_array(name, shape=data.shape, dtype=data.dtype)[...] = data


def write_ome_zarr(path: Path, version: str) -> npt.NDArray[np.uint16]:
    data = RNG.integers(0, 60000, (1, 2, 3, 40, 60), dtype=np.uint16)
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level in range(2):
        step = 2**level
        add_array(group, str(level), data[..., ::step, ::step])
    multiscales = [
        {
            "version": version,
            "axes": [{"name": name} for name in "tczyx"],
            "datasets": [{"path": "0"}, {"path": "1"}],
        }
    ]
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    if version == "0.4":
        group.attrs.update({"multiscales": multiscales, "omero": omero})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": multiscales, "omero": omero}
    return data


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    data = write_ome_zarr(tmp_path / "a.zarr", version)
    with open_image(tmp_path / "a.zarr") as image:
        assert image.axes == "TCZYX"
        assert not isinstance(image.pixels, np.ndarray)
        picture = image.plane({"Z": 2})
    np.testing.assert_array_equal(picture.pixels, data[0, :, 2])
    assert picture.channel_names == ("DAPI", "GFP")
    check(tmp_path / "a.zarr", data[0, :, 1, ::2, ::2], plane=1, level=1)
    with pytest.raises(UnusableImageError, match=r"a\.zarr is a pyramid .* levels 0 to 1, got 5"):
        read_image(tmp_path / "a.zarr", level=5)


@pytest.mark.parametrize(
    ("where", "key"), [("ome", "omero"), ("multiscales", "axes"), ("omero", "channels")]
)
def test_ome_zarr_with_null_where_there_is_nothing_to_say(
    tmp_path: Path, where: str, key: str
) -> None:
    path = tmp_path / "a.zarr"
    data = write_ome_zarr(path, "0.4")
    group = zarr.open_group(path, mode="r+")
    ome = dict(group.attrs)
    {"ome": ome, "multiscales": ome["multiscales"][0], "omero": ome["omero"]}[where][key] = None
    group.attrs.put(ome)
    with open_image(path) as image:
        assert image.axes == "TCZYX"
        assert image.channel_names == (("DAPI", "GFP") if where == "multiscales" else ())
        np.testing.assert_array_equal(image.plane({"Z": 1}).pixels, data[0, :, 1])


def test_ome_zarr_without_an_array(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.4", "datasets": []}]
    with pytest.raises(
        UnreadableImageError, match=r"name no array \(datasets is empty\); write it"
    ):
        read_image(tmp_path / "a.zarr")


def test_bioformats2raw_layout(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    data = write_ome_zarr(tmp_path / "a.zarr" / "0", "0.4")
    check(tmp_path / "a.zarr", data[0, :, 0], plane=0)


def test_a_group_with_one_array(tmp_path: Path) -> None:
    add_array(zarr.open_group(tmp_path / "a.zarr", mode="w"), "image", GREY16)
    check(tmp_path / "a.zarr", GREY16)


def test_groups_that_are_no_image(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    message = r"expected one array or OME-Zarr metadata, got the arrays: none; name one"
    with pytest.raises(UnreadableImageError, match=message):
        read_image(tmp_path / "a.zarr")
    add_array(group, "one", GREY)
    add_array(group, "two", GREY)
    with pytest.raises(UnreadableImageError, match=r"got the arrays: .*; name one, such as .*"):
        read_image(tmp_path / "a.zarr")
    group.attrs["plate"] = {"wells": []}
    with pytest.raises(UnreadableImageError, match=r"it is a plate with many images; name one"):
        read_image(tmp_path / "a.zarr")


def test_zarr_arrays_of_unknown_axes(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 3, 8, 9), dtype=np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    with pytest.raises(UnusableImageError, match=r"shape \(2, 3, 8, 9\) and does not name its ax"):
        read_image(tmp_path / "a.zarr")
    check(tmp_path / "a.zarr", data[1, 2], axes="TZYX", plane={"T": 1, "Z": 2})


def test_damaged_zarr(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=GREY16, chunks=(40, 60), zarr_format=3)
    chunk = path / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(UnreadableImageError, match=r"cannot read .*a\.zarr: .*; the file may be c"):
        read_image(path)
    (path / "zarr.json").write_text("{not json")
    with pytest.raises(UnreadableImageError, match=r"cannot read .*a\.zarr: "):
        read_image(path)
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "cake"}))
    with pytest.raises(UnreadableImageError, match=r"cannot read .*a\.zarr: "):
        read_image(path)
