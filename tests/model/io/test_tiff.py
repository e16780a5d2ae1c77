"""Stacks of every make, colours of every model, and pages that do not fit together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageOps

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.images import ImageWarning, open_image, read_image

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (3, 20, 30), dtype=np.uint8)
GREY = STACK[0]
RGB = np.add.outer(np.add.outer(np.arange(20), np.arange(30)), [0, 60, 120]).astype(np.uint8)


def write_pages(path: Path, pages: list[npt.NDArray[Any]], **options: Any) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, contiguous=False, **options)


def with_tag(path: Path, page: int, tag: int, value: int) -> None:
    """Change a tag of a written page."""
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[page].tags[tag].overwrite(value)


# ------------------------------------------------------------------------------ pages


def with_pillow(path: Path) -> None:
    pages = [Image.fromarray(page) for page in STACK]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def with_mixed_compression(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page, compression in zip(STACK, ["zlib", None, "lzw"], strict=True):
            writer.write(page, metadata=None, compression=compression)


@pytest.mark.parametrize(
    "write",
    [
        with_pillow,
        with_mixed_compression,
        lambda path: write_pages(path, list(STACK), metadata=None),
        lambda path: write_pages(path, list(STACK)),
    ],
    ids=["pillow", "mixed compression", "without metadata", "written one by one"],
)
def test_pages_of_equal_shape_are_a_stack(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(
        UnusableImageError,
        match=r"a\.tif is a stack along I \(3 planes\); choose .* channels, with axes='CYX'$",
    ):
        read_image(path)
    for index, page in enumerate(STACK):
        np.testing.assert_array_equal(read_image(path, plane=index), page)
    np.testing.assert_array_equal(read_image(path, axes="CYX"), STACK)


def test_pages_of_colours_are_a_stack(tmp_path: Path) -> None:
    pages = [RGB, RGB[::-1]]
    write_pages(tmp_path / "a.tif", pages, photometric="rgb")
    for index, page in enumerate(pages):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", plane=index), page)


@pytest.mark.parametrize(
    "other", [GREY[:9], GREY.astype(np.uint16), RGB], ids=["size", "type", "S"]
)
@pytest.mark.parametrize("options", [{}, {"metadata": None}], ids=["shaped", "plain"])
def test_pages_that_are_no_stack(tmp_path: Path, other: Any, options: dict[str, Any]) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY, **options)
        writer.write(other, photometric="rgb" if other.ndim == 3 else "minisblack", **options)
    message = (
        r"a\.tif holds 2 pictures of different size or type; only the first, of shape \(20, 30"
    )
    with pytest.warns(ImageWarning, match=message) as caught:
        image = read_image(tmp_path / "a.tif")
    assert len(caught) == 1
    np.testing.assert_array_equal(image, GREY)


def test_images_of_an_ome_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(STACK, metadata={"axes": "ZYX"})
        writer.write(STACK[::-1], metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(read_image(path, plane={"I": 1, "Z": 0}), STACK[2])
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(GREY)
        writer.write(GREY[:5])
    with pytest.warns(ImageWarning, match="holds 2 pictures of different size"):
        read_image(path)


def test_a_thumbnail_is_not_the_picture(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY[::4, ::4], subfiletype=1, metadata=None)
        writer.write(GREY, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), GREY)


@pytest.mark.parametrize("count", [2, 12])
def test_pages_with_palettes_of_their_own(tmp_path: Path, count: int) -> None:
    pages = [Image.fromarray(GREY).convert("P") for _ in range(count)]
    for factor, page in enumerate(pages, start=1):
        page.putpalette([value * factor % 256 for value in range(768)])
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(
        UnusableImageError, match=r"a\.tif is a stack whose pages differ in their pal"
    ):
        open_image(tmp_path / "a.tif")
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[:1] * (count - 1))
    expected = np.asarray(pages[0].convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", plane=1), expected)


# ------------------------------------------------------------------------------ colours


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_other_colour_models_become_rgb_as_pillow_converts_them(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    assert np.abs(image.astype(int) - RGB).mean() < 4


CMYK = np.dstack([255 - RGB, RGB[..., 0] // 2])


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (CMYK, {}),
        (CMYK, {"compression": "lzw"}),
        (CMYK.astype(np.uint16) * 257, {}),
        (np.moveaxis(CMYK, 2, 0), {"planarconfig": "separate"}),
        (np.dstack([CMYK, GREY]), {"extrasamples": ["unspecified"]}),
    ],
    ids=["8", "lzw", "16", "planes", "more samples"],
)
def test_inks(tmp_path: Path, stored: npt.NDArray[Any], options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="separated", **options)
    expected = Image.frombytes("CMYK", (30, 20), CMYK.tobytes()).convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.asarray(expected))


def test_inks_of_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([CMYK, CMYK[::-1]]), photometric="separated")
    first, second = (read_image(tmp_path / "a.tif", plane=index) for index in range(2))
    assert first.shape == (20, 30, 3)
    np.testing.assert_array_equal(second, first[::-1])


def test_samples_named_as_channels_stay_as_they_are(tmp_path: Path) -> None:
    planes = np.moveaxis(CMYK, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="separated", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", axes="CYX"), planes)


def test_ycbcr_in_jpeg_is_decoded_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", compression="jpeg")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - RGB).mean() < 8


@pytest.mark.parametrize(
    ("stored", "photometric", "named"),
    [
        (RGB.astype(np.uint16), "cielab", "CIELAB, 3 x uint16"),
        (RGB, "icclab", "ICCLAB, 3 x uint8"),
        (GREY, "cfa", "CFA, 1 x uint8"),
        (RGB.astype(np.uint16), "ycbcr", "YCBCR, 3 x uint16"),
        (CMYK.astype(np.float32), "separated", "SEPARATED, 4 x float32"),
    ],
)
def test_colours_that_cannot_be_converted(
    tmp_path: Path, stored: npt.NDArray[Any], photometric: str, named: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric)
    with pytest.raises(
        UnusableImageError, match=rf"a\.tif stores its colours as {named}, .*as RGB"
    ):
        read_image(tmp_path / "a.tif")


def test_inks_that_are_not_cmyk(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", CMYK, photometric="separated", extratags=[(332, "H", 1, 2, True)]
    )
    with pytest.raises(UnusableImageError, match="stores its colours as SEPARATED"):
        read_image(tmp_path / "a.tif")


# ------------------------------------------------------------------------------ orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [GREY, RGB], ids=["grey", "colour"])
def test_tiffs_are_turned_upright(
    tmp_path: Path, orientation: int, stored: npt.NDArray[Any]
) -> None:
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, extratags=tag)
    picture = Image.fromarray(stored)
    picture.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_stacks_are_turned_upright(tmp_path: Path) -> None:
    tag = [(274, "H", 1, 6, True)]
    tifffile.imwrite(
        tmp_path / "a.ome.tif", STACK, ome=True, metadata={"axes": "ZYX"}, extratags=tag
    )
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.ome.tif", plane=1), np.rot90(STACK[1], -1)
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", STACK, ome=True, metadata={"axes": "CYX"}, extratags=tag
    )
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.ome.tif"), np.rot90(STACK, -1, axes=(1, 2))
    )


@pytest.mark.parametrize("count", [3, 12])
def test_pages_turned_differently(tmp_path: Path, count: int) -> None:
    pages = [GREY] * count
    write_pages(tmp_path / "a.tif", pages, metadata=None, extratags=[(274, "H", 1, 1, True)])
    read_image(tmp_path / "a.tif", plane=2)
    with_tag(tmp_path / "a.tif", 2, 274, 8)
    with pytest.raises(
        UnusableImageError, match="whose pages differ in their orientation; save ea"
    ):
        open_image(tmp_path / "a.tif")


# ------------------------------------------------------------------------------ what tifffile logs


def test_tifffile_is_quiet_while_we_read_and_only_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK.astype(np.uint16), imagej=True)
    path.write_bytes(path.read_bytes()[:-500])
    with caplog.at_level(logging.DEBUG, "tifffile"):
        with tifffile.TiffFile(path) as file:
            assert file.series
        assert "ImageJ series metadata invalid" in caplog.text
        caplog.clear()
        with pytest.raises(UnreadableImageError):
            read_image(path, plane=0)
        assert caplog.records == []
        logging.getLogger("tifffile").warning("heard again")
    assert caplog.messages == ["heard again"]
