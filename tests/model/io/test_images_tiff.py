"""TIFF of every type, compression and palette, with stacks, channels and pyramids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.model.io.reading import GREY, GREY16, RGB, RNG, STACK, check

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.images import open_image, read_image


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
