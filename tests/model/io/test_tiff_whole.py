"""A TIFF of which a part is missing is never read as if it were whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from sam_plugins.errors import ImageError, UnreadableImageError
from sam_plugins.model.io.images import open_image, read_image

RAMP = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint16)
STACK = np.stack([RAMP + 10 * index for index in range(5)])
RGB = np.stack([RAMP, RAMP + 50, RAMP + 100], -1).astype(np.uint8)


def with_pillow(path: Path) -> None:
    pages = [Image.fromarray(page.astype(np.uint8)) for page in STACK]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")


def writer(pixels: npt.NDArray[Any], **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tifffile.imwrite(path, pixels, **options)

    return write


ZYX = {"axes": "ZYX"}
JPEG = {"photometric": "rgb", "compression": "jpeg"}
WRITERS: dict[str, Callable[[Path], None]] = {
    "plain": writer(RAMP),
    "strips": writer(RAMP, compression="zlib", rowsperstrip=4),
    "jpeg strips": writer(RGB, rowsperstrip=16, **JPEG),
    "jpeg tiles": writer(RGB, tile=(16, 16), **JPEG),
    "imagej": writer(STACK, imagej=True, metadata=ZYX),
    "imagej zlib": writer(STACK, imagej=True, metadata=ZYX, compression="zlib"),
    "ome": writer(STACK, ome=True, metadata=ZYX),
    "ome zlib": writer(STACK, ome=True, metadata=ZYX, compression="zlib"),
    "tifffile": writer(STACK, metadata=ZYX),
    "tifffile big": writer(STACK, metadata=ZYX, compression="zlib", bigtiff=True),
    "pages": with_pillow,
}


def last_plane(path: Path) -> tuple[int, npt.NDArray[Any]]:
    """Return how many planes there are, and the last one."""
    with open_image(path) as image:
        lengths = image.stack_axes
        plane = image.plane({axis: length - 1 for axis, length in lengths.items()})
    return max(lengths.values(), default=1), plane.pixels


@pytest.mark.parametrize("kind", WRITERS)
def test_wherever_a_file_is_cut_it_is_refused_or_read_right(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    WRITERS[kind](path)
    content = path.read_bytes()
    count, expected = last_plane(path)
    errors = []
    for kept in {int(len(content) * part) for part in np.linspace(0.01, 0.999, 40)}:
        path.write_bytes(content[:kept])
        try:
            found, plane = last_plane(path)
        except ImageError as error:
            errors.append(str(error))
        else:
            assert found == count, kept
            np.testing.assert_array_equal(plane, expected)
    assert len(errors) >= 20
    assert all(str(path) in error for error in errors)


def test_pixels_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    WRITERS["jpeg tiles"](path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        UnreadableImageError, match=r"a\.tif: pixels of plane 1 lie beyond the end; th"
    ):
        read_image(path)


def test_one_block_of_pixels_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, metadata=ZYX, truncate=True)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        UnreadableImageError, match=r"a\.tif: it ends before its pixels do; the file"
    ):
        read_image(path, plane=0)


def end_chain_after(path: Path, pages: int) -> None:
    """Cut the last pages off, cleanly: the page before says that it is the last one."""
    with tifffile.TiffFile(path) as file:
        offset, order = file.pages[pages - 1].offset, file.byteorder
    content = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from(f"{order}H", content, offset)
    struct.pack_into(f"{order}I", content, offset + 2 + 12 * tags, 0)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["imagej zlib", "ome", "ome zlib", "tifffile zlib"])
@pytest.mark.parametrize("pages", [1, 3])
def test_a_header_that_promises_more_planes(tmp_path: Path, kind: str, pages: int) -> None:
    path = tmp_path / "a.tif"
    zlib = writer(STACK, metadata=ZYX, compression="zlib")
    WRITERS.get(kind, zlib)(path)
    end_chain_after(path, pages)
    with pytest.raises(
        UnreadableImageError, match=r"a\.tif: 5 planes are promised, and not all of"
    ):
        read_image(path, plane=0)


def test_an_imagej_stack_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    WRITERS["imagej"](path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(
        UnreadableImageError, match=r"cannot read .*a\.tif: .*; the file was cut short"
    ):
        read_image(path, plane=0)


def test_a_page_that_is_named_but_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with_pillow(path)
    with tifffile.TiffFile(path) as file:
        third = file.pages[2].offset
    path.write_bytes(path.read_bytes()[: third - 1])
    with pytest.raises(
        UnreadableImageError, match=r"a\.tif: page 3 is missing; the file was cut sho"
    ):
        read_image(path, plane=0)


UUIDS = [f"urn:uuid:{index}0000000-0000-0000-0000-000000000000" for index in range(3)]


def write_ome_set(folder: Path) -> list[Path]:
    """Write a stack of three planes, each in a file of its own."""
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="z{z}.ome.tif">{uuid}</UUID></TiffData>'
        for z, uuid in enumerate(UUIDS)
    )
    paths = []
    for z, uuid in enumerate(UUIDS):
        metadata = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="60" SizeY="40" SizeZ="3" SizeC="1" SizeT="1">{data}</Pixels></Image></OME>'
        )
        paths.append(folder / f"z{z}.ome.tif")
        tifffile.imwrite(
            paths[-1], STACK[z], description=metadata, metadata=None, compression="zlib"
        )
    return paths


def test_a_set_of_ome_files(tmp_path: Path) -> None:
    paths = write_ome_set(tmp_path)
    for path in paths:
        for z in range(3):
            np.testing.assert_array_equal(read_image(path, plane=z), STACK[z])
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:-20])
    with pytest.raises(
        UnreadableImageError, match=r"z0\.ome\.tif: pixels of plane 2 in z1\.ome\.tif li"
    ):
        read_image(paths[0], plane=0)
    paths[1].unlink()
    with pytest.raises(
        UnreadableImageError,
        match=r"z0\.ome\.tif: it is one of a set of files, and z1\.ome\.tif cannot be .*; copy",
    ):
        read_image(paths[0], plane=0)


def test_strips_that_were_left_out_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    sparse = np.zeros((64, 64), np.uint8)
    tiles = (None if index else np.full((16, 16), 7, np.uint8) for index in range(16))
    tifffile.imwrite(path, tiles, shape=sparse.shape, dtype=sparse.dtype, tile=(16, 16))
    sparse[:16, :16] = 7
    np.testing.assert_array_equal(read_image(path), sparse)
