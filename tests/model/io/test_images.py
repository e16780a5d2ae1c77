"""Every format that people have: what Pillow decodes, and one file of each ending."""

from __future__ import annotations

import struct
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
from tests.model.io.reading import GREY, GREY16, RGB, RNG, check

from sam_plugins.model.io.images import IMAGE_SUFFIXES, open_image, read_image


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


def test_a_gif_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(16).save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        check(tmp_path / "a.gif", np.asarray(picture.convert("RGB")))


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
