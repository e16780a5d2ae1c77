"""Pixels of a TIFF, read window by window, of which nothing is decoded for every window anew."""

from __future__ import annotations

import errno
import itertools
import math
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from sam_plugins.errors import MemoryLimitError, UnreadableImageError
from sam_plugins.model.io.arrays import SliceableArray

_WHOLE_PAGE_BYTES = 1 << 28
"""Up to this size a page in strips is decoded at once: thousands of them are slow one by one."""

_WHOLE_TILED_PAGE_BYTES = 1 << 24
"""Of a larger page in tiles only those are decoded that are asked for."""

_KEPT_BYTES = 1 << 28
_UNPACKED_BYTES = 1 << 36
_MAX_STRIP_BYTES = 1 << 26
_BAND_ROWS = 2048
"""Rows that tiles side by side ask for, with their halos: strips of so many have to be kept."""

_BLOCK_BYTES = 1 << 22
"""Strips are decoded so many bytes at a time: each call costs as much as a thousand pixels."""

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """What was used last, up to a number of bytes; any number of threads may ask.

    Parameters
    ----------
    max_bytes : int
        The oldest go when there is more; one that is larger alone is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Hashable, tuple[int, _T]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _T | None:
        """Return what was kept by this name, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[1]

    def keep(self, key: Hashable, value: _T, nbytes: int) -> None:
        """Keep a value of so many bytes, in place of the oldest."""
        if nbytes > self.max_bytes:
            return
        with self._lock:
            before, _ = self._held.pop(key, (0, None))
            self._held[key] = (nbytes, value)
            self._nbytes += nbytes - before
            while self._nbytes > self.max_bytes:
                _, (oldest, _) = self._held.popitem(last=False)
                self._nbytes -= oldest

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self._nbytes = 0


# Of the process and not of an opened file: tiles, contrast and slices open a file each, on a
# cluster every tile does.
DECODED: Recent[npt.NDArray[Any]] = Recent(_KEPT_BYTES)
"""Blocks of any TIFF that were decoded last."""

UNPACKED: Recent[StoredPixels] = Recent(_UNPACKED_BYTES)
"""Pages of any TIFF that were written to temporary files, which go when they are forgotten."""


def pixels_of(path: Path, series: tifffile.TiffPageSeries) -> SliceableArray:
    """Return the pixels of a series, which are read when indexed.

    Parameters
    ----------
    path : Path
        The file.
    series : tifffile.TiffPageSeries
        Of the file, which stays open.

    Returns
    -------
    array
        Indexed with a number or a slice for each axis. Bytes that are stored as they are, are
        mapped. Others are decoded in blocks (a page, a tile, some strips), of which the last ones
        are kept. Strips so large that this would not do are unpacked once, to a temporary file.
    """
    offset = _stored_at(series)
    if offset is not None:
        file = _file_of(series)
        dtype = series.dtype.newbyteorder(file.byteorder)
        return StoredPixels(file.filehandle.path, offset, dtype, series.shape)
    frame = series.keyframe
    most = _WHOLE_TILED_PAGE_BYTES if frame.is_tiled else _WHOLE_PAGE_BYTES
    identity = (*_identity(path, series), frame.nbytes <= most)
    if frame.nbytes <= most:
        pages = _chunks(series, "page")
        return BlockPixels(pages, pages.chunks, identity)
    parts = _chunks(series, "strile")
    if frame.is_tiled:
        return BlockPixels(parts, parts.chunks, identity)
    strip = math.prod(parts.chunks) * parts.dtype.itemsize
    rows = max(1, frame.rowsperstrip)
    if strip > _MAX_STRIP_BYTES or _BAND_ROWS * strip // rows > DECODED.max_bytes:
        return UnpackedPixels(path, parts, _chunks(series, "page").chunks, identity)
    return BlockPixels(parts, _several(series, parts.chunks, strip), identity)


class StoredPixels:
    """An array that lies in a file as it is; only the part that is asked for is mapped.

    Parameters
    ----------
    file : str, Path or open file
    offset : int
        Bytes before the first value.
    dtype : dtype
        In the file's order of bytes; what is read is in that of the machine.
    shape : tuple of int
    """

    def __init__(
        self,
        file: str | Path | BinaryIO,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> None:
        self._file, self._offset, self._stored = file, offset, dtype
        self.shape = tuple(int(length) for length in shape)
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")

    def __getitem__(self, where: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        """Return a part, as a copy: no page of the file stays in memory for it."""
        first, *others = full_index(where, self.shape)
        start, stop, _ = _range(first, self.shape[0])
        if start >= stop:
            return np.empty(self.shape, self.dtype)[(slice(0), *others)]
        inner = self.shape[1:]
        before = self._offset + start * math.prod(inner) * self._stored.itemsize
        mapped = np.memmap(self._file, self._stored, "r", before, (stop - start, *inner))
        chosen = slice(None, stop - start, first.step) if isinstance(first, slice) else 0
        return np.array(mapped[(chosen, *others)], self.dtype)


class BlockPixels:
    """An array that is decoded block by block, of which the last ones are kept.

    Parameters
    ----------
    array : array
        What decodes; one thread at a time asks it.
    block : tuple of int
        Shape of the blocks, whole chunks of the array.
    identity : tuple
        Tells the array from others in :data:`DECODED`.
    """

    def __init__(
        self, array: SliceableArray, block: tuple[int, ...], identity: tuple[Hashable, ...]
    ) -> None:
        self._array, self._block, self._identity = array, block, identity
        self._lock = threading.Lock()
        self.shape = tuple(int(length) for length in array.shape)
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, where: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        """Return a part."""
        return gathered(self, where, self._block, self._decoded)

    def _decoded(self, place: tuple[int, ...], needs_all: bool) -> npt.NDArray[Any]:
        """Return a block; one of which nothing is left to be asked for is not kept."""
        key = (self._identity, place)
        with self._lock:
            found = DECODED.get(key)
            if found is None:
                found = np.asarray(self._array[block_at(place, self._block, self.shape)])
                if not needs_all:
                    DECODED.keep(key, found, found.nbytes)
            return found


class UnpackedPixels:
    """An array of pages in strips too large to decode twice: each is unpacked to a temporary file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    array : array
        What decodes.
    page : tuple of int
        Shape of a page.
    identity : tuple
        Tells the array from others in :data:`UNPACKED`.
    """

    def __init__(
        self,
        path: Path,
        array: zarr.Array[Any],
        page: tuple[int, ...],
        identity: tuple[Hashable, ...],
    ) -> None:
        self._path, self._array, self._page, self._identity = path, array, page, identity
        self._lock = threading.Lock()
        self.shape = tuple(int(length) for length in array.shape)
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, where: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        """Return a part."""
        return gathered(self, where, self._page, self._unpacked)

    def _unpacked(self, place: tuple[int, ...], needs_all: bool) -> StoredPixels:
        """Return a page, which is decoded once."""
        del needs_all
        key = (self._identity, place)
        with self._lock:
            found = UNPACKED.get(key)
            if found is None:
                found = self._unpack(place)
                UNPACKED.keep(key, found, math.prod(found.shape) * self.dtype.itemsize)
            return found

    def _unpack(self, place: tuple[int, ...]) -> StoredPixels:
        """Write a page strip by strip: they lie one after the other in it."""
        where = block_at(place, self._page, self.shape)
        shape = tuple(part.stop - part.start for part in where)
        steps = (
            range(part.start, part.stop, chunk)
            for part, chunk in zip(where, self._array.chunks, strict=True)
        )
        file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as what reads it
        try:
            for starts in itertools.product(*steps):
                strip = tuple(
                    slice(start, min(start + chunk, part.stop))
                    for start, chunk, part in zip(starts, self._array.chunks, where, strict=True)
                )
                file.write(np.ascontiguousarray(self._array[strip]).view(np.uint8).data)
            file.flush()
        except MemoryError as error:
            file.close()
            raise MemoryLimitError(
                f"cannot read {self._path}: a strip of it does not fit into memory; save it in "
                "tiles, with tifffile.imwrite(..., tile=(256, 256)) on a larger machine, say"
            ) from error
        except OSError as error:
            file.close()
            if error.errno != errno.ENOSPC:
                raise
            raise UnreadableImageError(
                f"cannot read {self._path}: its strips are unpacked to {tempfile.gettempdir()}, "
                "which is full; make room, name another folder with TMPDIR, or save it in tiles"
            ) from error
        found = StoredPixels(file, 0, self.dtype, shape)
        weakref.finalize(found, file.close)
        return found


def gathered(
    array: SliceableArray,
    where: Any,  # noqa: ANN401
    block: tuple[int, ...],
    read: Callable[[tuple[int, ...], bool], SliceableArray],
) -> npt.NDArray[Any]:
    """Return a part of an array, put together from the blocks that it lies in.

    Parameters
    ----------
    array : array
        Says shape and type.
    where : int, slice, or tuple of them
    block : tuple of int
        Shape of a block.
    read : callable
        From the place of a block, and whether all of it is asked for, to the block.
    """
    index = full_index(where, array.shape)
    ranges = [_range(one, length) for one, length in zip(index, array.shape, strict=True)]
    result = np.empty([len(range(*one)) for one in ranges], array.dtype)
    if result.size:
        spans = [
            range(start // length, (stop - 1) // length + 1)
            for (start, stop, _), length in zip(ranges, block, strict=True)
        ]
        for place in itertools.product(*spans):
            _copy_block(result, ranges, array.shape, block, place, read)
    numbers = tuple(0 if isinstance(one, int) else slice(None) for one in index)
    return np.asarray(result[numbers])


def _copy_block(
    result: npt.NDArray[Any],
    ranges: Sequence[tuple[int, int, int]],
    shape: tuple[int, ...],
    block: tuple[int, ...],
    place: tuple[int, ...],
    read: Callable[[tuple[int, ...], bool], SliceableArray],
) -> None:
    """Copy what is asked for of one block."""
    source: list[slice] = []
    target: list[slice] = []
    extents = block_at(place, block, shape)
    for (start, stop, step), extent in zip(ranges, extents, strict=True):
        skipped = max(0, -(-(extent.start - start) // step))
        first = start + skipped * step
        last = min(stop, extent.stop)
        count = len(range(first, last, step))
        if not count:  # a step over the whole block
            return
        source.append(slice(first - extent.start, last - extent.start, step))
        target.append(slice(skipped, skipped + count))
    needs_all = all(
        part == slice(0, extent.stop - extent.start, 1)
        for part, extent in zip(source, extents, strict=True)
    )
    result[tuple(target)] = read(place, needs_all)[tuple(source)]


def block_at(
    place: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """Return where a block lies; the last ones may be cut."""
    return tuple(
        slice(number * size, min((number + 1) * size, length))
        for number, size, length in zip(place, block, shape, strict=True)
    )


def full_index(where: Any, shape: tuple[int, ...]) -> tuple[int | slice, ...]:  # noqa: ANN401
    """Return an index with a number or a slice for every axis."""
    parts = where if isinstance(where, tuple) else (where,)
    full = (*parts, *[slice(None)] * (len(shape) - len(parts)))
    return tuple(one if isinstance(one, slice) else int(one) for one in full)


def _range(one: int | slice, length: int) -> tuple[int, int, int]:
    """Return start, stop and step; all numbers in one place, from 0 on."""
    if isinstance(one, slice):
        start, stop, step = one.indices(length)
        if step < 1:
            raise IndexError(f"expected a step of 1 or more, got {step}")
        return start, max(start, stop), step
    if not -length <= one < length:
        raise IndexError(f"expected a number below {length}, got {one}")
    return one % length, one % length + 1, 1


def _stored_at(series: tifffile.TiffPageSeries) -> int | None:
    """Return where the bytes of a series lie as they are, one after the other, or None."""
    handle, offset = _file_of(series).filehandle, series.dataoffset
    pages = list(_parents(series))
    if not handle.is_file or offset is None or any(one is not series.parent for one in pages):
        return None
    end = offset + math.prod(series.shape) * series.dtype.itemsize
    return offset if end <= handle.size and series.transform is None else None


def _file_of(series: tifffile.TiffPageSeries) -> tifffile.TiffFile:
    """Return the opened file of a series."""
    assert series.parent is not None
    return series.parent


def _parents(series: tifffile.TiffPageSeries) -> Iterator[object]:
    """Yield the files that the pages of a series are in: an OME set has many."""
    for page in series:
        if page is not None:
            yield page.parent


def _identity(path: Path, series: tifffile.TiffPageSeries) -> tuple[Hashable, ...]:
    """Return what tells a series from any other, and from a file that is written in its place."""
    if not _file_of(series).filehandle.is_file:
        return (object(),)  # in memory: known while it is open
    if any(parent is not series.parent for parent in _parents(series)):
        return (object(),)  # and so are several files
    state = path.stat()
    written = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return (str(path.resolve()), *written, series.keyframe.offset, series.shape)


def _chunks(series: tifffile.TiffPageSeries, mode: str) -> zarr.Array[Any]:
    """Return a series as an array whose chunks are pages, or strips and tiles."""
    array = zarr.open_array(series.aszarr(level=0, chunkmode=mode), mode="r")
    assert isinstance(array, zarr.Array)
    return array


def _several(
    series: tifffile.TiffPageSeries, chunks: tuple[int, ...], strip: int
) -> tuple[int, ...]:
    """Return the shape of some strips together."""
    count = max(1, _BLOCK_BYTES // max(1, strip))
    return tuple(
        size * count if axis == "Y" else size
        for axis, size in zip(series.axes, chunks, strict=True)
    )
