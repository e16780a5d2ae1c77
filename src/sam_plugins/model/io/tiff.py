"""TIFF and its microscopy dialects (OME, ImageJ, pyramids), read by tifffile."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.opened import (
    Finish,
    ImageWarning,
    OpenImage,
    checked_axes,
    decoding,
    require_level,
)
from sam_plugins.model.io.orientation import ORIENTATION_TAG, upright
from sam_plugins.model.io.tiff_colours import colour_conversion
from sam_plugins.model.io.tiff_pixels import pixels_of
from sam_plugins.model.io.tiff_whole import ome_root, refuse_incomplete

_PALETTE_TAG = 320
_EQUALS = ("generic", "uniform", "shaped", "ome")
"""Kinds of series that may be pictures of equal rank; other kinds add labels and thumbnails."""


def is_tiff(start: bytes) -> bool:
    """Return whether a file begins like a TIFF or a BigTIFF."""
    return start[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def open_tiff(
    path: Path,
    *,
    level: int = 0,
    axes: str | None = None,
    as_stored: bool = False,
    content: bytes | None = None,
) -> OpenImage:
    """Open the first picture or stack of a TIFF; no pixel is read yet.

    Parameters
    ----------
    path : Path
        The file. Pages of equal shape and type are one stack, along the axis I where the file
        names none. A file that holds other pictures beside gives a warning.
    level : int
        Level of a pyramid, 0 is the finest.
    axes : str, optional
        Letters of the axes where the file is wrong about them.
    as_stored : bool
        Whether values are wanted as they are stored, and not the colours that they mean.
    content : bytes, optional
        The file where it is in memory; ``path`` is then what messages call it, and other files that
        it names are not read.

    Raises
    ------
    UnreadableImageError
        If the file is damaged, lacks a part, or holds no picture.
    UnusableImageError
        If the level does not exist, the axes are no picture's, or the colours are of a kind that
        cannot be converted.
    """
    with decoding(path):
        file = tifffile.TiffFile(path if content is None else io.BytesIO(content))
    try:
        with decoding(path):
            return _open_series(path, file, level, axes, as_stored=as_stored)
    except BaseException:
        file.close()
        raise


def _open_series(
    path: Path, file: tifffile.TiffFile, level: int, axes: str | None, *, as_stored: bool
) -> OpenImage:
    """Open the first picture or stack of an opened file."""
    if not file.series:
        raise UnreadableImageError(
            f"cannot read {path}: the TIFF holds no picture; export it again"
        )
    joined = _joined_series(path, file)
    first = joined[0]
    require_level(level, len(first.levels), path)
    chosen = [series.levels[level] for series in joined]
    refuse_incomplete(path, file, chosen)
    pixels: SliceableArray
    if len(chosen) == 1:
        pixels, letters = pixels_of(path, chosen[0]), chosen[0].axes
    else:
        pixels, letters = _SeriesStack(path, chosen), "I" + chosen[0].axes
    letters = checked_axes(axes or letters, pixels.shape, path)
    return OpenImage(
        path=path,
        pixels=pixels,
        axes=letters,
        channel_names=_channel_names(file),
        finish=_finisher(path, file, chosen, letters, as_stored=as_stored),
        close=file.close,
        levels=len(first.levels),
        is_turned=_orientation(path, _all_pages(chosen)) != 1,
    )


def _joined_series(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the first series that is no thumbnail, and those that are pages of the same stack."""
    pictures = [series for series in file.series if not series.keyframe.is_reduced]
    first = (pictures or file.series)[0]
    if first.kind not in _EQUALS:
        return [first]
    joined = [series for series in pictures if _form(series) == _form(first)]
    others = len(pictures) - len(joined)
    if others > 0:
        warnings.warn(
            f"{path} holds {others + 1} pictures of different size or type; only the "
            f"first, of shape {first.shape}, is read; save the others as files of their own",
            ImageWarning,
            stacklevel=5,
        )
    return joined or [first]


def _form(series: tifffile.TiffPageSeries) -> tuple[Any, ...]:
    """Return in what the pages of one stack agree."""
    shapes = tuple(level.shape for level in series.levels)
    return (shapes, series.dtype, series.axes, series.keyframe.photometric)


class _SeriesStack:
    """Series of equal shape as one array with a new first axis."""

    def __init__(self, path: Path, series: Sequence[tifffile.TiffPageSeries]) -> None:
        self._path, self._series = path, series

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (len(self._series), *self._series[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the values."""
        return self._series[0].dtype

    def __getitem__(self, where: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Return a part; of the series only those that it needs are opened."""
        which, *inside = where
        if isinstance(which, slice):
            return np.stack([self._part(one, inside) for one in self._series[which]])
        return self._part(self._series[which], inside)

    def _part(
        self, one: tifffile.TiffPageSeries, inside: Sequence[int | slice]
    ) -> npt.NDArray[Any]:
        """Return a part of one of the series."""
        return np.asarray(pixels_of(self._path, one)[tuple(inside)])


def _finisher(
    path: Path,
    file: tifffile.TiffFile,
    chosen: Sequence[tifffile.TiffPageSeries],
    axes: str,
    *,
    as_stored: bool,
) -> Finish:
    """Return what turns a plane as stored into the picture: its colours, and upright."""
    pages = _all_pages(chosen)
    orientation = _orientation(path, pages)
    row_axis = 1 if "C" in axes and "S" not in axes else 0
    if as_stored:
        return lambda plane: upright(plane, orientation, row_axis=row_axis)
    if not file.is_imagej:
        _agreed(path, pages, _PALETTE_TAG, "palette")
    convert = colour_conversion(
        path, pages[0], has_samples="S" in axes, is_imagej=bool(file.is_imagej)
    )
    return lambda plane: upright(convert(plane), orientation, row_axis=row_axis)


def _all_pages(chosen: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPage]:
    """Return the pages of all series whose tags may differ."""
    return [page for series in chosen for page in _pages_with_tags(series)]


def _orientation(path: Path, pages: Sequence[tifffile.TiffPage]) -> int:
    """Return how the pages lie, 1 for upright."""
    return int(_agreed(path, pages, ORIENTATION_TAG, "orientation") or 1)


def _pages_with_tags(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """Return the pages whose tags may differ: all where no metadata say that they are a stack."""
    if series.kind not in {"generic", "uniform"}:
        return [series.keyframe]
    return [page.aspage() for page in series if page is not None]


def _agreed(path: Path, pages: Sequence[tifffile.TiffPage], tag: int, name: str) -> Any:  # noqa: ANN401
    """Return the value of a tag that is the same in all pages, or None where there is none."""
    values = [page.tags.valueof(tag) for page in pages]
    # palettes are arrays
    if any(not np.array_equal(value, values[0]) for value in values[1:]):
        raise UnusableImageError(
            f"{path} is a stack whose pages differ in their {name}; "
            "save each page as a file of its own, or all of them in the same way"
        )
    return values[0]


def _channel_names(file: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of the channels that OME or ImageJ metadata give."""
    if file.is_ome:
        root = ome_root(file)
        pixels = None if root is None else root.find(".//{*}Image/{*}Pixels")
        found = [] if pixels is None else [c.get("Name", "") for c in pixels.findall("{*}Channel")]
        return tuple(found) if all(found) else ()
    if file.is_imagej and file.imagej_metadata:
        labels = file.imagej_metadata.get("Labels")
        count = int(file.imagej_metadata.get("channels", 0))
        if isinstance(labels, list) and count and len(labels) == count:
            return tuple(str(label) for label in labels)
    return ()
