"""Geometry of masks on neighbouring slices."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.windows import Window, tight_window

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_EIGHT = np.ones((3, 3), bool)
_NOTHING = WindowMask((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))


def window_of(mask: BoolArray, offset_yx: tuple[int, int] = (0, 0)) -> WindowMask:
    """Return a mask within the box of its pixels.

    Parameters
    ----------
    mask : ndarray of shape (h, w), bool
    offset_yx : (int, int)
        Row and column of its first pixel in the slice.

    Examples
    --------
    >>> window_of(np.array([[0, 0, 0], [0, 1, 1]], bool)).window
    (slice(1, 2, None), slice(1, 3, None))
    """
    inside = tight_window(mask)
    if inside is None:
        return _NOTHING
    down, across = inside
    y, x = offset_yx
    window = (
        slice(down.start + y, down.stop + y),
        slice(across.start + x, across.stop + x),
    )
    return WindowMask(window, mask[down, across].copy())


def shared_pixels(first: WindowMask, second: WindowMask) -> int:
    """Return how many pixels two masks of a slice have in common."""
    window = _common(first.window, second.window)
    if window is None:
        return 0
    return int(np.count_nonzero(_part(first, window) & _part(second, window)))


def window_iou(first: WindowMask, second: WindowMask) -> float:
    """Return the IoU of two masks of a slice, 0 where both are empty.

    Examples
    --------
    >>> one = window_of(np.array([[1, 1, 0]], bool))
    >>> window_iou(one, window_of(np.array([[0, 1, 1]], bool)))
    0.3333333333333333
    """
    shared = shared_pixels(first, second)
    union = np.count_nonzero(first.mask) + np.count_nonzero(second.mask) - shared
    return shared / int(union) if union else 0.0


def pieces_touching(found: WindowMask, before: WindowMask, *, min_share: float) -> WindowMask:
    """Return the pieces of a mask that overlap the mask of the slice before.

    Parameters
    ----------
    found, before : WindowMask
    min_share : float
        0 to 1: pieces smaller than this share of the largest one that overlaps are dropped.

    Returns
    -------
    WindowMask
        The largest piece where none overlaps.
    """
    pieces, count = ndimage.label(found.mask, structure=_EIGHT)
    if count <= 1:
        return found
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    touches = np.zeros(count + 1, bool)
    window = _common(found.window, before.window)
    if window is not None:
        inside = _within(found.window, window)
        touches[np.unique(pieces[inside][_part(before, window)])] = True
        touches[0] = False
    if not touches.any():
        touches = areas == areas.max()
    stays = touches & (areas >= min_share * areas[touches].max())
    kept: BoolArray = stays[pieces]
    return window_of(kept, (found.window[0].start, found.window[1].start))


def moved_box(
    box: FloatArray,
    before: FloatArray | None,
    *,
    shift: float,
    growth: float,
    limit: float,
) -> FloatArray:
    """Return where a box should be on the next slice.

    Parameters
    ----------
    box, before : ndarray of shape (4,)
        On the last slice, and on the one before it where that is known.
    shift, growth : float
        How much of the last shift of its middle, and of the last change of its sides, happens
        again.
    limit : float
        Of each side's change at most, as a share of the mean side.

    Returns
    -------
    ndarray of shape (4,)
        Right may be left of left where it shrinks to nothing.

    Examples
    --------
    >>> moved_box(np.array([10.5, 4.5, 30.5, 24.5]), np.array([9.5, 4.5, 29.5, 24.5]),
    ...           shift=1.0, growth=1.0, limit=0.2)
    array([11.5,  4.5, 31.5, 24.5])
    """
    if before is None:
        return box
    change = box - before
    middle = np.tile((change[:2] + change[2:]) / 2, 2)
    most = limit * (box[2] - box[0] + box[3] - box[1]) / 2
    moved: FloatArray = box + np.clip(shift * middle + growth * (change - middle), -most, most)
    return moved


def box_inside(box: FloatArray, size_hw: SizeHW) -> FloatArray | None:
    """Return the part of a box within a slice, None where there is hardly any.

    Examples
    --------
    >>> box_inside(np.array([-3.0, 2, 5, 6]), (10, 10))
    array([-0.5,  2. ,  5. ,  6. ])
    """
    height, width = size_hw
    inside: FloatArray = np.clip(box, -0.5, np.array([width, height, width, height]) - 0.5)
    if (inside[2:] - inside[:2] <= 0.25).any():
        return None
    return inside


def box_iou(first: FloatArray, second: FloatArray) -> float:
    """Return the IoU of two boxes, each left, top, right, bottom.

    Examples
    --------
    >>> box_iou(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2]))
    0.3333333333333333
    """
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]))
    return shared / (areas - shared)


def deepest_point(found: WindowMask) -> tuple[float, float]:
    """Return the pixel (x, y) of a mask, not an empty one, that is farthest from its border.

    Examples
    --------
    >>> deepest_point(WindowMask((slice(2, 5), slice(7, 10)), np.ones((3, 3), bool)))
    (8.0, 3.0)
    """
    depth = ndimage.distance_transform_edt(np.pad(found.mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(found.window[1].start + x), float(found.window[0].start + y)


def leaning_overlap(area: float, steps_per_pixel: float) -> float:
    """Return the IoU with its last slice of a round object whose outline leans by 45 degrees.

    The outline moves by one slice distance d from slice to slice; with a radius r the IoU is
    ((r - d) / r) ** 2, however good the masks are.

    Parameters
    ----------
    area : float
        Pixels, 1 or more.
    steps_per_pixel : float
        Slice distance over pixel size.

    Examples
    --------
    >>> round(leaning_overlap(np.pi * 10**2, 1.0), 2), round(leaning_overlap(np.pi * 10**2, 5.0), 2)
    (0.81, 0.25)
    """
    return float(max(0.0, 1 - steps_per_pixel / math.sqrt(area / math.pi)) ** 2)


def box_between(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.float64]:
    """Return the box of a rounded object between two of its slices.

    Middles lie on a straight line. Sides fall from the longer one to the shorter as those of an
    ellipsoid do from its middle on: slowly at first, and fast in the end. A straight line between
    the middle of a ball and its tip would be far too narrow.

    Parameters
    ----------
    first, second : ndarray of shape (4,)
        x0, y0, x1, y1.
    share : float
        0 to 1: how far from the first to the second.

    Examples
    --------
    >>> box_between(np.array([0.0, 0, 10, 10]), np.array([5.0, 5, 5, 5]), 0.6).tolist()
    [1.0, 1.0, 9.0, 9.0]
    """
    middles = [(box[:2] + box[2:]) / 2 for box in (first, second)]
    squares = [np.maximum(box[2:] - box[:2], 0.0) ** 2 for box in (first, second)]
    shrinks = squares[0] >= squares[1]
    fallen = np.where(shrinks, share, 1 - share) ** 2
    longest, shortest = np.maximum(*squares), np.minimum(*squares)
    half = np.sqrt(longest - fallen * (longest - shortest)) / 2
    middle = (1 - share) * middles[0] + share * middles[1]
    return np.concatenate([middle - half, middle + half])


def blend(first: WindowMask, second: WindowMask, weight: float, size_hw: SizeHW) -> WindowMask:
    """Return the shape between two masks: their signed distances, averaged.

    Parameters
    ----------
    first, second : WindowMask
        None of them empty.
    weight : float
        0 to 1: of the second.
    size_hw : (int, int)
        Of the slice.

    Examples
    --------
    >>> small = window_of(np.pad(np.ones((1, 1), bool), 3))
    >>> large = window_of(np.pad(np.ones((5, 5), bool), 1))
    >>> int(blend(small, large, 0.5, (7, 7)).mask.sum())
    9
    """
    parts = [(f.window[0], f.window[1]) for f in (first, second)]
    top = max(0, min(rows.start for rows, _ in parts) - 1)
    left = max(0, min(columns.start for _, columns in parts) - 1)
    bottom = min(size_hw[0], max(rows.stop for rows, _ in parts) + 1)
    right = min(size_hw[1], max(columns.stop for _, columns in parts) + 1)
    window = (slice(top, bottom), slice(left, right))
    distances = [_signed_distance(_part(found, window)) for found in (first, second)]
    between = (1 - weight) * distances[0] + weight * distances[1]
    return window_of(between > 0, (top, left))


def _signed_distance(mask: BoolArray) -> FloatArray:
    """Return how far each pixel is from the border: positive inside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)))
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    distance: FloatArray = inside - outside
    return distance


def _common(first: Window, second: Window) -> Window | None:
    """Return the rows and columns that two windows share."""
    parts = [
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    ]
    if any(part.start >= part.stop for part in parts):
        return None
    return parts[0], parts[1]


def _within(outer: Window, inner: Window) -> Window:
    """Return a window counted from the first pixel of another."""
    rows, columns = (
        slice(i.start - o.start, i.stop - o.start) for o, i in zip(outer, inner, strict=True)
    )
    return rows, columns


def _part(found: WindowMask, window: Window) -> BoolArray:
    """Return the pixels of a mask in any window, False beyond its own."""
    drawn = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), bool)
    common = _common(found.window, window)
    if common is not None:
        drawn[_within(window, common)] = found.mask[_within(found.window, common)]
    return drawn
