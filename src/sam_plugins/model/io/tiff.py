"""TIFF and its microscopy dialects (OME, ImageJ, pyramids), read by tifffile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.opened import OpenImage, checked_axes, decoding

_WHOLE_PAGE_BYTES = 1 << 28
"""Up to this size a page is read at once: thousands of small strips are slow one by one."""


def is_tiff(start: bytes) -> bool:
    """Return whether a file begins like a TIFF or a BigTIFF."""
    return start[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def open_tiff(path: Path, *, level: int = 0, axes: str | None = None) -> OpenImage:
    """Open the first series of a TIFF; no pixel is read yet.

    Parameters
    ----------
    path : Path
        The file.
    level : int
        Level of a pyramid, 0 is the finest.
    axes : str, optional
        Letters of the axes where the file is wrong about them.

    Raises
    ------
    UnreadableImageError
        If the file is damaged or holds no picture.
    UnusableImageError
        If the level does not exist or the axes are no picture's.
    """
    with decoding(path):
        file = tifffile.TiffFile(path)
    try:
        with decoding(path):
            return _open_series(path, file, level, axes)
    except BaseException:
        file.close()
        raise


def _open_series(path: Path, file: tifffile.TiffFile, level: int, axes: str | None) -> OpenImage:
    """Open the first series of an opened file."""
    if not file.series:
        raise UnreadableImageError(
            f"cannot read {path}: the TIFF holds no picture; export it again"
        )
    series = file.series[0]
    if not 0 <= level < len(series.levels):
        raise UnusableImageError(
            f"{path} has the levels 0 to {len(series.levels) - 1}, got {level}"
        )
    chosen = series.levels[level]
    keyframe = chosen.keyframe
    is_small = keyframe.nbytes <= _WHOLE_PAGE_BYTES
    store = chosen.aszarr(level=0, chunkmode="page" if is_small else "strile")
    pixels = zarr.open_array(store, mode="r")
    return OpenImage(
        path=path,
        pixels=pixels,
        axes=checked_axes(axes or chosen.axes, pixels.shape, path),
        channel_names=_channel_names(file),
        finish=_finisher(keyframe, is_imagej=bool(file.is_imagej)),
        close=file.close,
    )


def _finisher(page: Any, *, is_imagej: bool) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:  # noqa: ANN401
    """Return what turns stored values into the picture: palettes and inverted greys."""
    photometric = tifffile.PHOTOMETRIC
    if page.photometric == photometric.MINISWHITE:
        return _inverted
    # ImageJ writes its display colours as a palette: there the stored values are the intensities
    if page.photometric == photometric.PALETTE and page.colormap is not None and not is_imagej:
        palette = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        return lambda plane: palette[plane] if plane.ndim == 2 else plane
    return lambda plane: plane


def _inverted(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a picture whose 0 means white with 0 meaning black."""
    if plane.dtype.kind == "u":
        return np.asarray(np.iinfo(plane.dtype).max - plane)
    # masks: tifffile writes True as 1 and yet declares 0 as white, and reads back what it wrote
    return plane if plane.dtype == bool else -plane


def _channel_names(file: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of the channels that OME or ImageJ metadata give."""
    if file.is_ome and file.ome_metadata:
        try:
            # written by a microscope and parsed before by tifffile; entities are not resolved
            root = ET.fromstring(file.ome_metadata)  # noqa: S314
        except ET.ParseError:
            return ()
        pixels = root.find(".//{*}Image/{*}Pixels")
        found = [] if pixels is None else [c.get("Name", "") for c in pixels.findall("{*}Channel")]
        return tuple(found) if all(found) else ()
    if file.is_imagej and file.imagej_metadata:
        labels = file.imagej_metadata.get("Labels")
        count = int(file.imagej_metadata.get("channels", 0))
        if isinstance(labels, list) and count and len(labels) == count:
            return tuple(str(label) for label in labels)
    return ()
