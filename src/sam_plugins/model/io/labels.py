"""Results on disk: label images, overlay pictures and tables of objects, complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from scipy import ndimage

from sam_plugins.model.io.atomic import atomic_path, write_bytes
from sam_plugins.model.io.rle import encode_mask


def write_labels(path: str | os.PathLike[str], labels: npt.NDArray[np.integer[Any]]) -> None:
    """Write a label image or volume as a compressed TIFF.

    Parameters
    ----------
    path : path-like
        File to write, usually ``NAME_labels.tif``.
    labels : ndarray of shape (H, W), (Z, H, W) or (T, Z, H, W), integer
        0 is background. Written as 16-bit up to label 65,535, which Fiji and its kind read as they
        are, and as 32-bit above, which Fiji turns into floats; never as 8-bit, which viewers take
        for a grey picture. (napari takes 16-bit for one, too, until it is told.)

    Raises
    ------
    ValueError
        If the array is no label image: not integer, negative, not of two to four axes, or empty.
    OutputError
        If the file cannot be written.
    """
    labels = np.asarray(labels)
    _check_labels(labels, (2, 3, 4))
    if not labels.size:
        raise ValueError(f"labels must have at least one pixel, got the shape {labels.shape}")
    largest = int(labels.max(initial=0))
    if largest > np.iinfo(np.uint32).max:
        raise ValueError(f"labels must not exceed {np.iinfo(np.uint32).max}, got {largest}")
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels.astype(dtype, copy=False),
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "TZYX"[-labels.ndim :]},
        )


def write_picture(path: str | os.PathLike[str], rgb: npt.NDArray[np.uint8]) -> None:
    """Write an 8-bit RGB picture as PNG.

    Parameters
    ----------
    path : path-like
        File to write.
    rgb : ndarray of shape (H, W, 3), uint8
        The picture.

    Raises
    ------
    ValueError
        If the array is no 8-bit RGB picture.
    OutputError
        If the file cannot be written.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(
            f"rgb must be of shape (H, W, 3) and type uint8, got {rgb.shape} and {rgb.dtype}"
        )
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(rgb)).save(temporary, format="PNG")


def write_objects(
    path: str | os.PathLike[str],
    objects: Sequence[Mapping[str, Any]],
    *,
    size_hw: tuple[int, int],
    source: Mapping[str, Any] | None = None,
) -> None:
    """Write the table of objects as JSON.

    Parameters
    ----------
    path : path-like
        File to write, usually ``NAME_objects.json``.
    objects : sequence of mapping
        As :func:`describe_objects` returns it.
    size_hw : (int, int)
        Size of the picture in pixels.
    source : mapping, optional
        Where the objects come from: image, model, versions.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    height, width = size_hw
    table = {**(source or {}), "size_hw": [int(height), int(width)], "objects": list(objects)}
    write_bytes(path, (json.dumps(table, indent=1, allow_nan=False) + "\n").encode())


def describe_objects(
    labels: npt.NDArray[np.integer[Any]],
    scores: npt.ArrayLike | None = None,
    points_xy: npt.ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Return one plain dictionary for each object of a label image.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        0 is background. Labels that do not occur are left out.
    scores : array_like of shape (n,), optional
        Score of the object with label ``i + 1`` at place ``i``; NaN is written as null.
    points_xy : array_like of shape (n, 2), optional
        The point prompt of the object with label ``i + 1``.

    Returns
    -------
    list of dict
        ``label``, ``area`` (pixels), ``box_xyxy`` (of the pixel centres, both ends inside the
        object), ``segmentation`` (COCO RLE), and ``score`` and ``point_xy`` where given.

    Raises
    ------
    ValueError
        If the array is no label image, or ``scores`` or ``points_xy`` are shorter than its labels.

    Examples
    --------
    >>> describe_objects(np.array([[0, 1], [0, 1]]), scores=[0.9])[0]["box_xyxy"]
    [1, 0, 1, 1]
    """
    labels = np.asarray(labels)
    _check_labels(labels, (2,))
    largest = int(labels.max(initial=0))
    all_scores = None if scores is None else np.asarray(scores, np.float64)
    all_points = None if points_xy is None else np.asarray(points_xy, np.float64)
    for name, values in (("scores", all_scores), ("points_xy", all_points)):
        if values is not None and len(values) < largest:
            raise ValueError(f"{name} must have one entry per label, {largest}, got {len(values)}")
    height, width = labels.shape
    objects = []
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        rows, columns = where
        mask = labels[where] == label
        described: dict[str, Any] = {
            "label": label,
            "area": int(mask.sum()),
            "box_xyxy": [columns.start, rows.start, columns.stop - 1, rows.stop - 1],
        }
        if all_scores is not None:
            described["score"] = _number(all_scores[label - 1])
        if all_points is not None:
            described["point_xy"] = [_number(value) for value in all_points[label - 1]]
        described["segmentation"] = encode_mask(
            mask, offset_yx=(rows.start, columns.start), size_hw=(height, width)
        )
        objects.append(described)
    return objects


def _check_labels(labels: npt.NDArray[Any], ndims: tuple[int, ...]) -> None:
    """Refuse arrays that are no label images."""
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.ndim not in ndims:
        raise ValueError(
            f"labels must have {' or '.join(map(str, ndims))} axes, got {labels.shape}"
        )
    if labels.dtype.kind == "i" and int(labels.min(initial=0)) < 0:
        raise ValueError(f"labels must not be negative, got {int(labels.min())}")


def _number(value: float) -> float | None:
    """Return a number for JSON, which knows no NaN; six digits are more than any score carries."""
    return round(float(value), 6) if np.isfinite(value) else None
