"""What can be done to objects of a label image: functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import LabelArray, Window

Overlap = Literal["keep", "replace"]
OVERLAPS: tuple[Overlap, ...] = ("keep", "replace")

BoolArray = npt.NDArray[np.bool_]


def write_mask(
    labels: LabelArray, mask: BoolArray, label: int, *, overlap: Overlap = "keep"
) -> LabelArray:
    """Return a copy of ``labels`` with ``mask`` written as object ``label``.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        0 is background.
    mask : ndarray of shape (H, W), bool
        True inside the object.
    label : int
        1 or more; must fit the type of ``labels``.
    overlap : {"keep", "replace"}
        Whether pixels of other objects stay or are taken over.

    Raises
    ------
    ValueError
        If the shapes differ, ``label`` does not fit, or ``overlap`` is unknown.

    Examples
    --------
    >>> write_mask(np.array([[1, 1, 0, 0]], np.uint16), np.array([[False, True, True, False]]), 2)
    array([[1, 1, 2, 0]], dtype=uint16)
    """
    if labels.shape != mask.shape:
        raise ValueError(f"mask must have the shape of labels, {labels.shape}, got {mask.shape}")
    require_label(label, labels.dtype)
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap must be one of {', '.join(OVERLAPS)}, got {overlap!r}")
    written = labels.copy()
    written[mask & ((labels == 0) | (labels == label)) if overlap == "keep" else mask] = label
    return written


def require_label(label: int, dtype: np.dtype[Any]) -> None:
    """Refuse a label that is none, or that a type cannot hold.

    Raises
    ------
    ValueError
        With the range.
    """
    largest = int(np.iinfo(dtype).max)
    if not 1 <= label <= largest:
        raise ValueError(
            f"a label must lie within 1 and {largest}, which is what {dtype} can hold, got {label}"
        )


def find_object(labels: LabelArray, label: int) -> MaskCrop:
    """Return the pixels of one object of a plane.

    Raises
    ------
    ValueError
        If it has none.
    """
    found = MaskCrop.of(labels == label)
    if label == 0 or found.is_empty:
        raise ValueError(f"there must be pixels of the object {label} in this plane, got none")
    return found


def split_mask(
    mask: BoolArray, seeds_xy: Sequence[tuple[float, float]] = ()
) -> npt.NDArray[np.int32]:
    """Return the parts of an object: its pieces, or what lies around each of some points.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
    seeds_xy : sequence of (float, float)
        Two points or more, pixels of ``mask``: a watershed of the distance from the border, from
        these on. By default pieces that do not touch become parts.

    Returns
    -------
    ndarray of shape (H, W), int32
        1 to n, the largest part first; 0 outside.

    Raises
    ------
    ValueError
        If it would remain whole.

    Examples
    --------
    >>> split_mask(np.array([[1, 0, 1, 1]], bool)).tolist()
    [[2, 0, 1, 1]]
    """
    if len(seeds_xy) == 1:
        raise ValueError("splitting needs two points or more, one in each part, got 1")
    if seeds_xy:
        from skimage.segmentation import watershed

        markers = np.zeros(mask.shape, np.int32)
        for number, (x, y) in enumerate(seeds_xy, 1):
            row, column = _nearest_inside(mask, x, y)
            markers[row, column] = number
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        parts = watershed(-depth, markers, mask=mask)  # type: ignore[no-untyped-call]
    else:
        parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    order = order[areas[order] > 0]
    if len(order) < 2:
        raise ValueError(
            "the object must consist of several pieces to be split by itself, got one; set a point "
            "in each part"
        )
    ranks = np.zeros(len(areas), np.int32)
    ranks[order] = np.arange(1, len(order) + 1)
    result: npt.NDArray[np.int32] = ranks[parts]
    return result


def _nearest_inside(mask: BoolArray, x: float, y: float) -> tuple[int, int]:
    """Return row and column of the pixel of a mask that lies nearest to a point."""
    rows, columns = np.nonzero(mask)
    nearest = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
    return int(rows[nearest]), int(columns[nearest])


def fill_object(mask: BoolArray) -> BoolArray:
    """Return a mask without holes."""
    filled: BoolArray = ndimage.binary_fill_holes(mask)
    return filled


def polygon_mask(vertices_xy: Sequence[tuple[float, float]], size_hw: tuple[int, int]) -> MaskCrop:
    """Return the inside of a polygon or of a lasso.

    Parameters
    ----------
    vertices_xy : sequence of (float, float)
        Three or more, in pixels of the plane.
    size_hw : (int, int)
        Of the plane.

    Raises
    ------
    ValueError
        If there are fewer, or no pixel lies inside.
    """
    from skimage.draw import polygon2mask

    if len(vertices_xy) < 3:
        raise ValueError(f"a polygon must have three corners or more, got {len(vertices_xy)}")
    points = np.asarray(vertices_xy, float)[:, ::-1]
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1
    window = Window(int(low[0]), int(low[1]), int(high[0]), int(high[1])).within(size_hw)
    corner = (window.top, window.left)
    inside = polygon2mask(window.shape, points - corner)  # type: ignore[no-untyped-call]
    found = MaskCrop.of(inside, corner)
    if found.is_empty:
        raise ValueError("a polygon must hold at least one pixel, got none inside; draw it larger")
    return found


def sample_path(
    path_xy: Sequence[tuple[float, float]], *, most: int = 8
) -> list[tuple[float, float]]:
    """Return points at equal distances on a line that was drawn, its ends among them.

    Examples
    --------
    >>> sample_path([(0, 0), (9, 0), (16, 0)], most=3)
    [(0.0, 0.0), (8.0, 0.0), (16.0, 0.0)]
    """
    points = np.asarray(path_xy, float)
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    count = int(min(most, max(1, round(lengths[-1] / 8) + 1)))
    if lengths[-1] == 0 or count == 1:
        return [(float(points[0, 0]), float(points[0, 1]))]
    places = np.linspace(0, lengths[-1], count)
    xs, ys = (np.interp(places, lengths, points[:, axis]) for axis in (0, 1))
    return list(zip(xs.tolist(), ys.tolist(), strict=True))
