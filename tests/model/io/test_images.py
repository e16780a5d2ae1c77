"""Every format that people have, and every way in which a file can be broken."""

from __future__ import annotations

import json
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from PIL import Image

from sam_plugins.errors import MemoryLimitError, UnreadableImageError, UnusableImageError
from sam_plugins.model.io import opened
from sam_plugins.model.io.images import IMAGE_SUFFIXES, is_image_folder, open_image, read_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 60), dtype=np.uint8)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY16 = RNG.integers(1000, 5000, (40, 60), dtype=np.uint16)
STACK = RNG.integers(0, 60000, (5, 40, 60), dtype=np.uint16)


def check(path: Path, expected: npt.NDArray[Any], **arguments: Any) -> None:
    result = read_image(path, **arguments)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


# ------------------------------------------------------------------------------ Pillow's


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_lossless_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True)
    check(path, RGB)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    check(tmp_path / "a.png", turn(RGB))


def test_exif_orientation_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", exif=exif, quality=98)
    result = read_image(tmp_path / "a.jpg").astype(int)
    assert np.abs(result - np.rot90(smooth, -1)).max() <= 3


def test_exif_orientation_of_a_16_bit_colour_png(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (30, 20, 3), dtype=np.uint16)
    content = imagecodecs.png_encode(deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])  # after the header
    check(tmp_path / "a.png", np.rot90(deep, -1))


@pytest.mark.parametrize("array", [GREY, GREY16, GREY > 100], ids=["8", "16", "1"])
def test_grey_png(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    check(tmp_path / "a.png", array)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_keeps_its_16_bits(tmp_path: Path, channels: int) -> None:
    deep = RNG.integers(0, 65536, (30, 20, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    check(tmp_path / "a.png", deep[..., 0] if channels == 2 else deep)


def test_palettes_become_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    picture.save(tmp_path / "a.png")
    back = read_image(tmp_path / "a.png")
    assert back.shape == (40, 60, 3)
    assert (back[..., 2] == 7).all()


def test_transparent_palettes_keep_alpha(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("P").save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").shape == (40, 60, 4)


def test_grey_with_alpha_is_grey(tmp_path: Path) -> None:
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY // 2)]).save(tmp_path / "a.png")
    check(tmp_path / "a.png", GREY)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    check(tmp_path / "a.tif", RGB)


# ------------------------------------------------------------------------------ TIFF


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4", "f8", "?"])
def test_tiff_types(tmp_path: Path, dtype: str) -> None:
    array = (GREY > 100) if dtype == "?" else GREY.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    check(tmp_path / "a.tif", array)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lzma"])
def test_tiff_compressions(tmp_path: Path, compression: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY16, compression=compression, tile=(16, 16))
    check(tmp_path / "a.tif", GREY16)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_colour_tiff(tmp_path: Path, planarconfig: Any) -> None:
    stored = RGB if planarconfig == "contig" else np.moveaxis(RGB, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planarconfig)
    check(tmp_path / "a.tif", RGB)


def test_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    check(tmp_path / "a.tif", 255 - GREY)


def test_tiff_palette(tmp_path: Path) -> None:
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours)
    check(tmp_path / "a.tif", (colours.T >> 8).astype(np.uint8)[GREY])


def test_tiff_palette_of_8_bit_entries(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (3, 256), dtype=np.uint16)  # 16 bits by the standard
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours)
    check(tmp_path / "a.tif", colours.T.astype(np.uint8)[GREY])


def test_display_colours_of_imagej_are_not_intensities(tmp_path: Path) -> None:
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, colormap=colours)
    check(tmp_path / "a.tif", GREY)


def test_a_plane_of_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"})
    check(tmp_path / "a.tif", STACK[3], plane=3)
    check(tmp_path / "a.tif", STACK[2], plane={"z": 2})


def test_a_stack_is_not_read_to_get_a_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"}, compression="zlib")
    decoded: list[int] = []
    original = tifffile.TiffPage.decode

    def counted(self: Any) -> Any:
        decode = original.__get__(self)

        def wrapped(data: Any, index: int, **kwargs: Any) -> Any:
            decoded.append(index)
            return decode(data, index, **kwargs)

        return wrapped

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(counted))
    with open_image(tmp_path / "a.tif") as image:
        assert image.pixels.shape == (5, 40, 60)
        assert image.axes == "ZYX"
        assert image.stack_axes == {"Z": 5}
        assert decoded == []
        np.testing.assert_array_equal(image.plane(3).pixels, STACK[3])
        assert len(decoded) == 1


def test_ome_tiff_with_channels(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (4, 2, 40, 60), dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        data,
        metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}},
    )
    with open_image(tmp_path / "a.ome.tif") as image:
        assert image.axes == "ZCYX"
        picture = image.plane({"Z": 1})
    np.testing.assert_array_equal(picture.pixels, data[1])
    assert picture.channel_axis == 0
    assert picture.channel_names == ("DAPI", "GFP")
    assert picture.default_channels == (0, 1)


def test_imagej_hyperstacks(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (2, 3, 2, 40, 60), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TZCYX"})
    check(tmp_path / "a.tif", data[1, 2], plane={"T": 1, "Z": 2})


def test_a_pyramid_has_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    fine = RNG.integers(0, 60000, (64, 96), dtype=np.uint16)
    with tifffile.TiffWriter(path) as writer:
        writer.write(fine, subifds=1, metadata={"axes": "YX"}, tile=(16, 16))
        writer.write(fine[::2, ::2], subfiletype=1, tile=(16, 16))
    check(path, fine)
    check(path, fine[::2, ::2], level=1)
    with pytest.raises(UnusableImageError, match=r"is a pyramid with the levels 0 to 1, got 2"):
        read_image(path, level=2)


def test_unknown_axes_get_letters_of_their_own(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 7, 40, 60), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data)
    with open_image(tmp_path / "a.tif") as image:
        assert image.stack_axes == {"Q": 2, "A": 7}
    check(tmp_path / "a.tif", data[1, 4], plane={"Q": 1, "A": 4})


def test_axes_may_be_corrected(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (7, 40, 60), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data)
    with open_image(tmp_path / "a.tif", axes="cyx") as image:
        picture = image.plane()
    assert picture.channel_axis == 0
    assert picture.default_channels is None
    with pytest.raises(UnusableImageError, match=r"expected one letter per axis, with Y and X"):
        open_image(tmp_path / "a.tif", axes="ZY")
    with pytest.raises(UnusableImageError, match=r"has the axis Y twice in 'YYX'"):
        open_image(tmp_path / "a.tif", axes="YYX")


# ------------------------------------------------------------------------------ Zarr


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


# ------------------------------------------------------------------------------ choosing planes


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


# ------------------------------------------------------------------------------ broken files


def make_files(folder: Path) -> list[Path]:
    tifffile.imwrite(folder / "plain.tif", GREY16)
    tifffile.imwrite(folder / "packed.tif", GREY16, compression="zlib")
    tifffile.imwrite(folder / "stack.tif", STACK, metadata={"axes": "ZYX"}, compression="zlib")
    Image.fromarray(RGB).save(folder / "colour.png")
    Image.fromarray(GREY16).save(folder / "deep.png")
    Image.fromarray(RGB).save(folder / "photo.jpg")
    Image.fromarray(RGB).save(folder / "b.bmp")
    Image.fromarray(RGB).save(folder / "w.webp")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.05])
def test_truncated_files(tmp_path: Path, kept: float) -> None:
    for path in make_files(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(UnreadableImageError, match=rf"cannot read .*{path.name}: .*; "):
            read_image(path, plane=4 if path.name == "stack.tif" else None)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"cannot read .*no\.png: no such file; check"):
        read_image(tmp_path / "no.png")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UnreadableImageError, match=r"a\.png: the file is empty \(0 bytes\); copy"):
        read_image(tmp_path / "a.png")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("This is no picture.")
    with pytest.raises(UnreadableImageError, match=r"content is of no image format that we know"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["eps", "pdf", "ppm", "tga", "ico"])
def test_formats_that_only_pillow_knows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path)
    message = rf"a\.{suffix}: its content is of no image format that we know; .*; save it as one"
    with pytest.raises(UnreadableImageError, match=message):
        read_image(path)


def test_no_program_is_run_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    Image.fromarray(RGB).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="no image format that we know"):
        read_image(tmp_path / "a.png")
    assert not (tmp_path / "was_run").exists()


def test_a_gif_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(16).save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        check(tmp_path / "a.gif", np.asarray(picture.convert("RGB")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for name in ("a.png", "b.png"):
        with pytest.raises(
            UnreadableImageError, match=rf"{name}: it is a pipe or a device and no f"
        ):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["~nouser/x.png", "~/no such file.png"])
def test_the_home_of_somebody_who_does_not_exist(name: str) -> None:
    with pytest.raises(
        UnreadableImageError, match=rf"cannot read {name}: no such file; check the n"
    ):
        read_image(name)


def test_a_folder_that_is_no_image(tmp_path: Path) -> None:
    assert not is_image_folder(tmp_path)
    with pytest.raises(UnreadableImageError, match="it is a folder, but no Zarr image; name the"):
        read_image(tmp_path)


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UnreadableImageError, match="you may not read it; ask its owner"):
        read_image(tmp_path / "a.png")


def test_refused_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableImageError, match=r"a\.png: you may not read it; ask its owner"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("looks", ["is_dir", "is_file"])
def test_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: str
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, looks, refuse)
    with pytest.raises(UnreadableImageError, match=r"you may not read it; ask its owner"):
        open_image(tmp_path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"aaa: the name is longer than a name can be"):
        read_image(tmp_path / ("a" * 300))


def test_animations(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match=r"got an animation of 2 frames; save the frame"):
        read_image(tmp_path / "a.gif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_too_many_pixels_for_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type[np.integer[Any]]
) -> None:
    picture = RGB.astype(dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # more is a warning, twice an error
    with pytest.raises(UnreadableImageError, match=r"decoded at once; convert it to TIFF or OME-Z"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    check(tmp_path / "a.png", picture)


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with open_image(tmp_path / "a.tif") as image:

        def fail(_: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(opened.np, "asarray", fail)
        with pytest.raises(MemoryLimitError, match=r"does not fit into memory; read a coarser lev"):
            image.plane()


def test_pictures_have_one_level(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    zarr.create_array(tmp_path / "a.zarr", data=GREY)
    for name in ("a.png", "a.zarr"):
        with pytest.raises(
            UnusableImageError,
            match=r"is no pyramid: it has level 0 alone, got level 1; leave the level",
        ):
            read_image(tmp_path / name, level=1)


def with_pillow(path: Path) -> None:
    Image.fromarray(GREY).save(path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".tif": lambda path: tifffile.imwrite(path, GREY),
    ".tiff": lambda path: tifffile.imwrite(path, GREY),
    ".png": with_pillow,
    ".jpg": with_pillow,
    ".jpeg": with_pillow,
    ".webp": with_pillow,
    ".bmp": with_pillow,
    ".gif": with_pillow,
    ".zarr": lambda path: zarr.create_array(path, data=GREY),
}


def test_the_endings_are_those_that_are_read(tmp_path: Path) -> None:
    assert set(IMAGE_SUFFIXES) == set(WRITERS)
    for suffix, write in WRITERS.items():
        write(tmp_path / f"a{suffix}")
        assert read_image(tmp_path / f"a{suffix}").shape[:2] == GREY.shape


def test_real_pictures(test_data: Path) -> None:
    for manifest in sorted(test_data.glob("*/manifest.json"))[:8]:
        path = next(p for p in sorted(manifest.parent.glob("*/images/*")))
        with open_image(path) as image:
            assert image.plane(dict.fromkeys(image.stack_axes, 0)).pixels.size
