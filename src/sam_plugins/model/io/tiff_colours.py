"""From the values that a TIFF stores to intensities or RGB: palettes, inks, inverted greys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.opened import Finish

Pixels: TypeAlias = npt.NDArray[Any]

_PHOTOMETRIC = tifffile.PHOTOMETRIC
_INTENSITIES = (
    _PHOTOMETRIC.MINISBLACK,
    _PHOTOMETRIC.RGB,
    _PHOTOMETRIC.MASK,
    _PHOTOMETRIC.LINEAR_RAW,
    _PHOTOMETRIC.DEPTH_MAP,
)
_COMPRESSION = tifffile.COMPRESSION
# decoders of all others give RGB where the file says YCbCr
_LOSSLESS = (
    _COMPRESSION.NONE,
    _COMPRESSION.LZW,
    _COMPRESSION.PACKBITS,
    _COMPRESSION.DEFLATE,
    _COMPRESSION.ADOBE_DEFLATE,
    _COMPRESSION.LZMA,
    _COMPRESSION.ZSTD,
)
_INK_SET_TAG = 332
_CMYK_INKS = 1


def colour_conversion(
    path: Path, page: tifffile.TiffPage, *, has_samples: bool, is_imagej: bool
) -> Finish:
    """Return what turns a plane as stored into intensities or RGB.

    Parameters
    ----------
    path : Path
        The file, for messages.
    page : tifffile.TiffPage
        Says how its values are meant.
    has_samples : bool
        Whether planes are (Y, X, S); who reads the samples as channels wants them as they are.
    is_imagej : bool
        ImageJ writes its display colours as a palette: there the values are the intensities.

    Returns
    -------
    callable
        CMYK, CIELab and YCbCr become 8-bit RGB as Pillow converts them.

    Raises
    ------
    UnusableImageError
        If the file stores colours that we cannot convert.
    """
    meant = page.photometric
    if meant in _INTENSITIES:
        return _as_stored
    if meant == _PHOTOMETRIC.MINISWHITE:
        return _inverted
    if meant == _PHOTOMETRIC.PALETTE:
        return _as_stored if is_imagej or page.colormap is None else _looked_up(page.colormap)
    if page.samplesperpixel > 1 and not has_samples:
        return _as_stored
    if meant == _PHOTOMETRIC.YCBCR:
        if page.compression not in _LOSSLESS:
            return _as_stored
        if not page.is_subsampled and _is_8_bit(page, 3):
            return lambda plane: _with_pillow(plane, "YCbCr")
    if meant == _PHOTOMETRIC.SEPARATED and _is_cmyk(page):
        return lambda plane: _with_pillow(_in_8_bits(plane), "CMYK")
    if meant == _PHOTOMETRIC.CIELAB and _is_8_bit(page, 3):
        return lambda plane: _with_pillow(plane, "LAB")
    name = str(getattr(meant, "name", meant))
    raise UnusableImageError(
        f"{path} stores its colours as {name}, {page.samplesperpixel} x {page.dtype}, which we "
        "cannot convert to RGB; save it as RGB"
    )


def _as_stored(plane: Pixels) -> Pixels:
    """Return the values themselves."""
    return plane


def _inverted(plane: Pixels) -> Pixels:
    """Return a picture whose 0 means white with 0 meaning black."""
    if plane.dtype.kind == "u":
        return np.asarray(np.iinfo(plane.dtype).max - plane)
    # masks: tifffile writes True as 1 and yet declares 0 as white, and reads back what it wrote
    return plane if plane.dtype == bool else -plane


def _looked_up(colormap: Pixels) -> Finish:
    """Return what replaces indices by the colours of a palette."""
    palette = np.asarray(colormap).T
    # 16 bits by the standard; some programs write 8, which would be black
    palette = (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8)
    return lambda plane: palette[plane] if plane.ndim == 2 else plane


def _is_8_bit(page: tifffile.TiffPage, samples: int) -> bool:
    """Return whether a page has so many samples, or more, of 8 bits."""
    return page.dtype == np.uint8 and page.samplesperpixel >= samples


def _is_cmyk(page: tifffile.TiffPage) -> bool:
    """Return whether separated inks are cyan, magenta, yellow and black, and integers."""
    inks = page.tags.valueof(_INK_SET_TAG, _CMYK_INKS)
    is_deep = page.dtype == np.uint16 and page.samplesperpixel >= 4
    return inks == _CMYK_INKS and (is_deep or _is_8_bit(page, 4))


def _in_8_bits(plane: Pixels) -> Pixels:
    """Return 16-bit inks with 8 bits, as Pillow reads them."""
    return (plane >> 8).astype(np.uint8) if plane.dtype == np.uint16 else plane


def _with_pillow(plane: Pixels, mode: str) -> Pixels:
    """Return a plane of another colour model, without samples beyond it, as RGB."""
    height, width, _ = plane.shape
    stored = np.ascontiguousarray(plane[..., : len(Image.new(mode, (1, 1)).getbands())])
    # raw mode LAB: TIFF stores a and b as signed numbers
    picture = Image.frombytes(mode, (width, height), stored.tobytes(), "raw", mode)
    return np.asarray(picture.convert("RGB"))
