"""Label images as people have them: numbers, whatever a file says about their colours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.errors import DatasetError
from sam_plugins.model.io.images import open_image

_MANY_PARTS = 5
_REMEDY = "save one number for each object as PNG or TIFF, 0 is background"


class MaskWarning(UserWarning):
    """What was given as the objects of a picture looks like a mask of all of them."""


def read_labels(
    path: str | os.PathLike[str], *, plane: int | Mapping[str, int] | None = None
) -> NDArray[np.integer[Any]]:
    """Read a label image, or a mask, whose values are the objects' numbers.

    Values are taken as they are stored: of a palette (PASCAL VOC, DAVIS) the indices and not the
    colours, of an inverted grey what was written.

    Parameters
    ----------
    path : path-like
        See :func:`~sam_plugins.model.io.images.open_image`.
    plane : int or mapping of axis letter to int, optional
        Which plane of a stack.

    Returns
    -------
    ndarray of shape (H, W), integer
        0 is background. A mask of truth values is one object, 1.

    Raises
    ------
    UnreadableImageError, UnusableImageError
        As of :func:`~sam_plugins.model.io.images.read_image`.
    DatasetError
        If the values are no numbers of objects (colours, fractions, negative ones), or the format
        changes values (JPEG, lossy WebP).
    """
    path = Path(path)
    if _is_lossy(path):
        raise DatasetError(
            f"labels must be stored without loss, got JPEG or lossy WebP in {path}, which changes "
            f"their values at every border; {_REMEDY}"
        )
    with open_image(path, as_stored=True) as image:
        return as_labels(image.plane(plane).pixels, path)


def as_labels(pixels: NDArray[Any], name: object) -> NDArray[np.integer[Any]]:
    """Return an array as a label image.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), or (H, W, S) with equal samples
        Integers, truth values, or floats that are whole numbers, as ImageJ stores large labels.
    name : object
        Of the file, for messages.

    Returns
    -------
    ndarray of shape (H, W), integer

    Raises
    ------
    DatasetError
        If it is none.

    Examples
    --------
    >>> as_labels(np.array([[0.0, 2.0]], np.float32), "a.tif")
    array([[0, 2]], dtype=int32)
    """
    if pixels.ndim == 3 and pixels.shape[-1] in {3, 4}:
        grey = pixels[..., 0]
        if (pixels[..., :3] == grey[..., None]).all():
            pixels = grey
    if pixels.ndim != 2 or pixels.dtype.kind not in "iubf":
        raise DatasetError(
            f"labels must be one channel of integers, got shape {pixels.shape} of "
            f"{pixels.dtype} in {name}; {_REMEDY}"
        )
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    if pixels.dtype.kind == "f":
        pixels = _whole_numbers(pixels, name)
    if pixels.dtype.kind == "i" and int(pixels.min(initial=0)) < 0:
        raise DatasetError(
            f"labels must not be negative, got {int(pixels.min())} in {name}; write 0 for "
            "background, and what is unknown into a picture of ignored pixels"
        )
    return pixels


def warn_of_mask(labels: NDArray[Any], name: object) -> None:
    """Warn where a label image looks like a mask of many objects: their borders are lost in it.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
    name : object
        Of the file or picture, for the message.

    Warns
    -----
    MaskWarning
        If the one value of it lies in five parts or more. One object seldom does.
    """
    if len(np.unique(labels[labels != 0])) == 1:
        parts = int(ndimage.label(labels)[1])
        if parts >= _MANY_PARTS:
            warnings.warn(
                f"the labels of {name} are one object, in {parts} parts; where these are objects, "
                "give each a number of its own (skimage.measure.label) and bring them again",
                MaskWarning,
                stacklevel=2,
            )


def _whole_numbers(pixels: NDArray[Any], name: object) -> NDArray[np.integer[Any]]:
    """Return floats that are whole numbers as integers."""
    is_finite = np.isfinite(pixels)
    wrong = pixels[~is_finite | (pixels != np.floor(np.where(is_finite, pixels, 0)))]
    if wrong.size:
        raise DatasetError(
            f"labels must be whole numbers, got {wrong[0]:g} in {name}; scaling and smoothing make "
            f"such values, so scale without interpolation; {_REMEDY}"
        )
    largest = np.abs(pixels).max(initial=0)
    if largest >= 2**63:
        raise DatasetError(f"labels must be below {2**63}, got {largest:g} in {name}; {_REMEDY}")
    return pixels.astype(np.int32 if largest < 2**31 else np.int64)


def _is_lossy(path: Path) -> bool:
    """Return whether a file is a JPEG or a lossy WebP; False where there is no file."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:  # a Zarr folder, or what the reader will say better
        return False
    is_lossy_webp = start[:4] == b"RIFF" and start[8:] == b"WEBPVP8 "
    return start[:2] == b"\xff\xd8" or is_lossy_webp
