"""The one place that opens image files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, SupportsIndex

import numpy.typing as npt
from PIL import UnidentifiedImageError

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.omezarr import is_zarr, open_zarr
from sam_plugins.model.io.opened import (
    ImageWarning,
    OpenImage,
    Picture,
    Where,
    checked_level,
    decoding,
)
from sam_plugins.model.io.pictures import open_picture
from sam_plugins.model.io.tiff import is_tiff, open_tiff

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageWarning",
    "OpenImage",
    "Picture",
    "is_image_folder",
    "open_content",
    "open_image",
    "read_image",
]

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".zarr")
"""Endings by which images are found in a folder; a named file may have any ending."""


def open_image(
    path: str | os.PathLike[str],
    *,
    level: SupportsIndex = 0,
    axes: str | None = None,
    as_stored: bool = False,
) -> OpenImage:
    """Open an image of any supported format, lazily where the format allows.

    Parameters
    ----------
    path : path-like
        A TIFF (also OME, ImageJ, BigTIFF, pyramids), PNG, JPEG, WebP, BMP or GIF file, or the
        folder of a Zarr array or OME-Zarr image. The format is recognised by content, not by name.
    level : int
        Level of a pyramid, 0 is the finest.
    axes : str, optional
        Letters of the axes where the file tells none or wrong ones, such as ``"ZYX"`` or ``"CYX"``.
    as_stored : bool
        Whether values are wanted as they are stored, as those of labels are: the indices of a
        palette, and greys whose 0 means white.

    Returns
    -------
    OpenImage
        Use it in a ``with`` block.

    Raises
    ------
    UnreadableImageError
        If there is no such file, or it cannot be decoded; names the file and the cause.
    UnusableImageError
        If it has no such level, its axes are not those of a picture, or its colours are of a kind
        that cannot be converted to RGB.
    TypeError
        If ``level`` is no whole number, or ``axes`` no string.

    Warns
    -----
    ImageWarning
        If a TIFF holds other pictures beside the one that is read.
    """
    path, level = Path(path), checked_level(level)
    if axes is not None and not isinstance(axes, str):
        raise TypeError(f"axes must be a string of letters such as 'ZYX', got {axes!r}")
    with decoding(path):  # we may not be allowed to look
        is_folder = path.is_dir()
        if is_folder and not is_zarr(path):
            raise UnreadableImageError(
                f"cannot read {path}: it is a folder, but no Zarr image; name the files in it"
            )
    if is_folder:
        return open_zarr(path, level=level, axes=axes)
    return _opened(path, _start(path), None, level=level, axes=axes, as_stored=as_stored)


def open_content(content: bytes, name: str) -> OpenImage:
    """Open an image whose file is in memory, as :func:`open_image` does one on the disk.

    Nothing is written, and no other file is read: an OME-TIFF that names some is refused.

    Parameters
    ----------
    content : bytes
        Of a TIFF, PNG, JPEG, WebP, BMP or GIF file.
    name : str
        What messages call it.

    Returns
    -------
    OpenImage
        Use it in a ``with`` block.

    Raises
    ------
    UnreadableImageError, UnusableImageError
        As :func:`open_image` does.
    """
    return _opened(Path(name), content[:16], content)


def _opened(
    path: Path,
    start: bytes,
    content: bytes | None,
    *,
    level: int = 0,
    axes: str | None = None,
    as_stored: bool = False,
) -> OpenImage:
    """Open a file by its first bytes; its content where that is in memory."""
    if not start:
        raise UnreadableImageError(
            f"cannot read {path}: the file is empty (0 bytes); copy or export it again"
        )
    if is_tiff(start):
        return open_tiff(path, level=level, axes=axes, as_stored=as_stored, content=content)
    try:
        return open_picture(path, level=level, axes=axes, as_stored=as_stored, content=content)
    except UnreadableImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise UnreadableImageError(
                f"cannot read {path}: its content is of no image format that we know; "
                "expected TIFF, PNG, JPEG, WebP, BMP, GIF or Zarr; save it as one of them"
            ) from error
        raise


def read_image(
    path: str | os.PathLike[str],
    *,
    plane: Where = None,
    level: SupportsIndex = 0,
    axes: str | None = None,
) -> npt.NDArray[Any]:
    """Read one picture, or one plane of a stack.

    Parameters
    ----------
    path : path-like
        See :func:`open_image`.
    plane : int or mapping of axis letter to int, optional
        Which plane of a stack, such as ``{"Z": 5}``.
    level, axes
        See :func:`open_image`.

    Returns
    -------
    ndarray of shape (H, W), (H, W, S) or (C, H, W)
        Values as in the file, but upright where it names an orientation, and colours as RGB.

    Raises
    ------
    UnreadableImageError
        If the file cannot be decoded.
    UnusableImageError
        If the plane or level does not exist, or none was chosen for a stack.
    TypeError
        If ``plane`` is no whole number and no mapping of axis letters to such numbers, or as for
        :func:`open_image`.
    """
    with open_image(path, level=level, axes=axes) as image:
        try:
            return image.plane(plane).pixels
        except UnusableImageError as error:
            axes = image.axes_with_channels()
            if plane is not None or axes is None:
                raise
            raise UnusableImageError(
                f"{error}, or say that these are channels, with axes={axes!r}"
            ) from error


def _start(path: Path) -> bytes:
    """Return the first bytes of a file; of a pipe, they might never come."""
    with decoding(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImageError(
                f"cannot read {path}: it is a pipe or a device and no file; "
                "save the picture as a file, and name that"
            )
        with path.open("rb") as file:
            return file.read(16)


def is_image_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder is itself an image (Zarr) rather than a folder of images."""
    return is_zarr(Path(path))
