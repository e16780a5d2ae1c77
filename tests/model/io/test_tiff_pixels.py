"""Windows of a TIFF: the right values, and nothing decoded for each of them anew."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from sam_plugins.errors import MemoryLimitError, UnreadableImageError
from sam_plugins.model.io import tiff_pixels
from sam_plugins.model.io.images import open_image
from sam_plugins.model.io.tiff_pixels import DECODED, UNPACKED, BlockPixels, Recent, StoredPixels

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 60_000, (70, 90), dtype=np.uint16)
RGB = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)
STACK = RNG.integers(0, 60_000, (4, 70, 90), dtype=np.uint16)
RAW: dict[str, Any] = {}
ZLIB: dict[str, Any] = {"compression": "zlib"}
STRIPS: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 7}
ONE_STRIP: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 70}
TILES: dict[str, Any] = {"compression": "zlib", "tile": (16, 32)}

KINDS: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "stored": (GREY, RAW),
    "stored colours": (RGB, {"photometric": "rgb"}),
    "stored, big-endian": (GREY, {"byteorder": ">"}),
    "stored stack": (STACK, {"photometric": "minisblack"}),
    "stored stack of imagej": (STACK, {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "strips": (RGB, {**STRIPS, "photometric": "rgb"}),
    "one strip": (GREY, ONE_STRIP),
    "strips, big-endian": (GREY, {**STRIPS, "byteorder": ">"}),
    "strips of planes": (np.moveaxis(RGB, 2, 0), {**STRIPS, "photometric": "rgb"}),
    "stack of strips": (STACK, {**STRIPS, "photometric": "minisblack"}),
    "tiles": (RGB, {**TILES, "photometric": "rgb"}),
    "stack of tiles": (STACK, {**TILES, "photometric": "minisblack"}),
}
LIMITS: dict[str, dict[str, int]] = {
    "as ever": {},
    "large pages": {
        "_WHOLE_PAGE_BYTES": 1000,
        "_WHOLE_TILED_PAGE_BYTES": 1000,
        "_BAND_ROWS": 1,
        "_BLOCK_BYTES": 3000,
    },
    "large strips": {"_WHOLE_PAGE_BYTES": 1000, "_MAX_STRIP_BYTES": 500},
}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Nothing is kept from one test to the next."""
    yield
    DECODED.clear()
    UNPACKED.clear()


class Counting:
    """A Zarr array that counts how often it decodes."""

    def __init__(self, array: Any, asked: list[Any]) -> None:
        self._array, self._asked = array, asked
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks

    def __getitem__(self, where: Any) -> Any:
        self._asked.append(where)
        return self._array[where]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been decoded."""
    found: list[Any] = []
    chunks = tiff_pixels._chunks
    monkeypatch.setattr(
        tiff_pixels, "_chunks", lambda series, mode: Counting(chunks(series, mode), found)
    )
    return found


def use(limits: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(tiff_pixels, name, value)


def windows(side: int) -> Iterator[tuple[slice, slice]]:
    """The windows of a picture, with halos."""
    for top in range(0, 70, side):
        for left in range(0, 90, side):
            yield slice(max(0, top - 4), top + side + 4), slice(max(0, left - 4), left + side + 4)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_any_part_has_the_values_of_the_file(
    kind: Any, limits: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(limits, monkeypatch)
    pixels, options = kind
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    rng = np.random.default_rng(1)
    with open_image(tmp_path / "a.tif") as image:
        assert image.pixels.shape == pixels.shape
        for _ in range(60):
            where: list[int | slice] = []
            for length in pixels.shape:
                start, stop = np.sort(rng.integers(0, length + 1, 2)).tolist()
                step = int(rng.choice([1, 1, 3, 40]))
                is_number = length == 4 and rng.random() < 0.5
                where.append(start % length if is_number else slice(start, stop, step))
            found = image.pixels[tuple(where)]
            assert found.dtype == pixels.dtype
            assert np.array_equal(found, pixels[tuple(where)])
        assert np.array_equal(image.pixels[:], pixels)


@pytest.mark.parametrize(
    ("options", "limits", "times"),
    [
        (ZLIB, {}, 1),
        (STRIPS, {"_WHOLE_PAGE_BYTES": 1000, "_BLOCK_BYTES": 1}, 10),
        (ONE_STRIP, {"_WHOLE_PAGE_BYTES": 1000, "_MAX_STRIP_BYTES": 500}, 1),
        (STRIPS, {"_WHOLE_PAGE_BYTES": 1000, "_MAX_STRIP_BYTES": 500}, 10),
        ({**TILES}, {"_WHOLE_TILED_PAGE_BYTES": 1000}, 15),
    ],
    ids=["page", "strips", "one strip", "unpacked strips", "tiles"],
)
def test_windows_do_not_decode_what_was_decoded(
    options: dict[str, Any],
    limits: dict[str, int],
    times: int,
    tmp_path: Path,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(limits, monkeypatch)
    tifffile.imwrite(tmp_path / "a.tif", GREY, **options)
    for rows, columns in windows(10):  # smaller than tiles: of none is all asked for
        with open_image(tmp_path / "a.tif") as image:  # each time, as tasks on a cluster do
            assert np.array_equal(image.pixels[rows, columns], GREY[rows, columns])
    assert len(asked) <= 2 * times  # those of which all was asked for are not kept
    if times == 1:
        assert len(asked) == 1


def test_a_plane_that_is_read_whole_is_not_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", compression="zlib")
    with open_image(tmp_path / "a.tif") as image:
        for index in range(4):
            assert np.array_equal(image.plane(index).pixels, STACK[index])
    assert not DECODED._held


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    for pixels in (GREY, GREY[::-1], GREY[:, ::-1]):
        tifffile.imwrite(tmp_path / "new.tif", pixels, compression="zlib")
        (tmp_path / "new.tif").replace(tmp_path / "a.tif")
        with open_image(tmp_path / "a.tif") as image:
            assert np.array_equal(image.pixels[3:9, 5:8], pixels[3:9, 5:8])


def test_bytes_that_are_stored_are_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    mapped: list[int] = []
    memmap = np.memmap

    def counting(*arguments: Any) -> Any:
        found = memmap(*arguments)
        mapped.append(found.nbytes)
        return found

    monkeypatch.setattr(tiff_pixels.np, "memmap", counting)
    with open_image(tmp_path / "a.tif") as image:
        assert isinstance(image.pixels, StoredPixels)
        assert np.array_equal(image.pixels[2, 10:20, 5:9], STACK[2, 10:20, 5:9])
    assert mapped == [STACK[0].nbytes]


def test_of_the_oldest_nothing_is_kept() -> None:
    recent: Recent[str] = Recent(10)
    recent.keep("a", "first", 4)
    recent.keep("b", "second", 4)
    assert recent.get("a") == "first"
    recent.keep("c", "third", 4)
    assert recent.get("b") is None
    assert recent.get("a") == "first"
    recent.keep("d", "too large", 11)
    assert recent.get("d") is None
    assert recent.get("c") == "third"


def test_threads_decode_a_block_once() -> None:
    asked: list[Any] = []
    counting = Counting(_Chunked(GREY, (70, 90)), asked)
    pixels = BlockPixels(counting, (70, 90), ("threads",))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: pixels[row : row + 1], range(70)))
    assert np.array_equal(np.concatenate(found), GREY)
    assert len(asked) == 1


class _Chunked:
    """An array that says that it is in chunks."""

    def __init__(self, array: npt.NDArray[Any], chunks: tuple[int, ...]) -> None:
        self._array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, where: Any) -> Any:
        return self._array[where]


def _full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def _no_memory(*_: object) -> int:
    raise MemoryError


@pytest.mark.parametrize(
    ("failing", "error", "message"),
    [
        (_full, UnreadableImageError, "which is full; make room, name another folder with TMPDIR"),
        (_no_memory, MemoryLimitError, "a strip of it does not fit into memory; save it in tiles"),
    ],
)
def test_strips_that_cannot_be_unpacked(
    failing: Callable[..., int],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(LIMITS["large strips"], monkeypatch)
    tifffile.imwrite(tmp_path / "a.tif", GREY, **ONE_STRIP)
    real = tempfile.TemporaryFile

    def closed() -> Any:
        file = real()
        monkeypatch.setattr(file, "write", failing, raising=False)
        return file

    monkeypatch.setattr(tiff_pixels.tempfile, "TemporaryFile", closed)
    with open_image(tmp_path / "a.tif") as image, pytest.raises(error, match=message):
        image.plane()
