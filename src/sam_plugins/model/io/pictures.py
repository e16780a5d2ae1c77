"""PNG, JPEG, WebP, BMP and GIF: one picture in one file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sam_plugins.errors import UnreadableImageError
from sam_plugins.model.io.modes import picture_pixels
from sam_plugins.model.io.opened import OpenImage, bytes_of, checked_axes, decoding, require_level
from sam_plugins.model.io.orientation import ORIENTATION_TAG, upright

_PNG_START = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Pillow tries no other: for some (EPS) it runs programs that are not ours."""

_SINGLE_FORMATS = ("MPO",)  # telephones add a preview or a second view to a JPEG


def open_picture(
    path: Path,
    *,
    level: int = 0,
    axes: str | None = None,
    as_stored: bool = False,
    content: bytes | None = None,
) -> OpenImage:
    """Read a picture of one of these formats; turned upright as its EXIF orientation says.

    Parameters
    ----------
    path : Path
        The file.
    level : int
        0: these formats have no pyramid.
    axes : str, optional
        Letters of the axes, ``"YX"`` or ``"YXS"`` by default.
    as_stored : bool
        Whether the indices of a palette are wanted and not its colours.
    content : bytes, optional
        The file where it is in memory; ``path`` is then what messages call it.

    Raises
    ------
    UnreadableImageError
        If the file is damaged, of an unknown format, too large to be decoded at once, or an
        animation.
    UnusableImageError
        If another level than 0 is asked for.
    """
    require_level(level, 1, path)
    pixels = _deep_png(path, content)
    if pixels is None:
        pixels = _with_pillow(path, content, as_stored=as_stored)
    letters = axes or "YXS"[: pixels.ndim]
    return OpenImage(path=path, pixels=pixels, axes=checked_axes(letters, pixels.shape, path))


def _deep_png(path: Path, content: bytes | None) -> npt.NDArray[Any] | None:
    """Return a PNG with more than one 16-bit channel, of which Pillow keeps 8 bits; else None."""
    with _decoding_with_pillow(path), bytes_of(path, content) as file:
        start = file.read(26)
        is_deep = start[:8] == _PNG_START and start[24:25] == b"\x10"
        if not is_deep or start[25] not in {2, 4, 6}:
            return None
        with Image.open(file, formats=("PNG",)) as picture:
            orientation = int(picture.getexif().get(ORIENTATION_TAG, 1))
        whole = path.read_bytes() if content is None else content
        return upright(np.asarray(imagecodecs.png_decode(whole)), orientation)


def _with_pillow(path: Path, content: bytes | None, *, as_stored: bool) -> npt.NDArray[Any]:
    """Return the pixels of a picture."""
    with (
        _decoding_with_pillow(path),
        bytes_of(path, content) as file,
        Image.open(file, formats=_FORMATS) as picture,
    ):
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format not in _SINGLE_FORMATS:
            raise UnreadableImageError(
                f"cannot read {path}: expected one picture, got an animation of {frames} "
                "frames; save the frame that you want as PNG"
            )
        turned = ImageOps.exif_transpose(picture)
        return np.asarray(turned) if as_stored and turned.mode == "P" else picture_pixels(turned)


@contextlib.contextmanager
def _decoding_with_pillow(path: Path) -> Iterator[None]:
    """Translate what Pillow raises; it warns of no large picture, and refuses a huge one."""
    try:
        with decoding(path), warnings.catch_warnings():
            # the user named this file: a large one is no attack
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"cannot read {path}: it has too many pixels to be decoded at once; "
            "convert it to TIFF or OME-Zarr, which are read in parts"
        ) from error
