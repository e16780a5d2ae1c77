"""From outlines to masks: polygons, turned rectangles and ellipses.

Formats that store outlines measure from the edges of the picture: its first pixel reaches from 0 to
1. A pixel belongs to a shape when its centre does; a centre on an outline belongs to the shape on
its right and below it, so that two shapes with a common edge share no pixel and leave none out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


def fill_polygons(
    polygons: Iterable[npt.ArrayLike], size_hw: tuple[int, int], *, even_odd: bool = False
) -> BoolArray:
    """Return the mask of polygons.

    Parameters
    ----------
    polygons : iterable of array_like of shape (N, 2)
        Corners ``x, y`` of each, in pixels from the edge of the picture; what lies outside is cut
        off. Where a polygon crosses itself, every second layer is outside.
    size_hw : (int, int)
        Size of the picture.
    even_odd : bool
        Whether a polygon within another is a hole; otherwise they are united.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If a polygon has fewer than three corners, or one that is not finite.

    Examples
    --------
    >>> fill_polygons([[(1, 0), (3, 0), (3, 2), (1, 2)]], (3, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    mask: BoolArray = np.zeros(size_hw, bool)
    for polygon in polygons:
        inside = _fill(np.asarray(polygon, np.float64), size_hw)
        mask = mask ^ inside if even_odd else mask | inside
    return mask


def turned_rectangle(
    x: float, y: float, width: float, height: float, degrees: float = 0.0
) -> npt.NDArray[np.float64]:
    """Return the corners of a rectangle that is turned clockwise about its first one, ``(x, y)``.

    Examples
    --------
    >>> turned_rectangle(5, 5, 2, 1, 90).round(9)
    array([[5., 5.],
           [5., 7.],
           [4., 7.],
           [4., 5.]])
    """
    turn = np.deg2rad(degrees)
    along = width * np.array([np.cos(turn), np.sin(turn)])
    down = height * np.array([-np.sin(turn), np.cos(turn)])
    corner = np.array([x, y], np.float64)
    return np.stack([corner, corner + along, corner + along + down, corner + down])


def fill_ellipse(
    centre_xy: tuple[float, float],
    radii_xy: tuple[float, float],
    size_hw: tuple[int, int],
    degrees: float = 0.0,
) -> BoolArray:
    """Return the mask of an ellipse that is turned clockwise about its centre.

    Parameters
    ----------
    centre_xy : (float, float)
        In pixels from the edge of the picture.
    radii_xy : (float, float)
        Along x and y before it is turned; more than 0.
    size_hw : (int, int)
        Size of the picture.
    degrees : float
        How far it is turned.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If a number is not finite, or a radius not more than 0.

    Examples
    --------
    >>> fill_ellipse((1.5, 1.5), (0.9, 1.4), (3, 3)).astype(int)
    array([[0, 1, 0],
           [0, 1, 0],
           [0, 1, 0]])
    """
    if not np.isfinite([*centre_xy, *radii_xy, degrees]).all() or min(radii_xy) <= 0:
        raise ValueError(
            f"an ellipse needs finite numbers and radii of more than 0, got centre {centre_xy} "
            f"and radii {radii_xy}"
        )
    turn = np.deg2rad(degrees)
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    right, down = x + 0.5 - centre_xy[0], y + 0.5 - centre_xy[1]
    along = (right * np.cos(turn) + down * np.sin(turn)) / radii_xy[0]
    across = (down * np.cos(turn) - right * np.sin(turn)) / radii_xy[1]
    mask: BoolArray = along**2 + across**2 <= 1
    return mask


def _fill(corners: npt.NDArray[np.float64], size_hw: tuple[int, int]) -> BoolArray:
    """Return the mask of one polygon: along each row, every crossed edge turns it on or off."""
    if corners.ndim != 2 or corners.shape[1:] != (2,) or len(corners) < 3:
        raise ValueError(f"a polygon must have shape (3 or more, 2), got {corners.shape}")
    if not np.isfinite(corners).all():
        raise ValueError("the corners of a polygon must be finite")
    height, width = size_hw
    begins, ends = corners, np.roll(corners, -1, axis=0)
    is_down = begins[:, 1] <= ends[:, 1]
    top = np.where(is_down[:, None], begins, ends)
    bottom = np.where(is_down[:, None], ends, begins)
    # the rows whose centres an edge crosses; clipped first, for corners far outside
    first = np.ceil(np.clip(top[:, 1], -1, height + 1) - 0.5).clip(0, height).astype(np.int64)
    stop = np.ceil(np.clip(bottom[:, 1], -1, height + 1) - 0.5).clip(0, height).astype(np.int64)
    counts = stop - first
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (row + 0.5 - top[edge, 1]) / (bottom[edge, 1] - top[edge, 1])
    x = top[edge, 0] + share * (bottom[edge, 0] - top[edge, 0])
    column = np.ceil(np.clip(x, -1, width + 1) - 0.5).clip(0, width).astype(np.int64)
    crossed = np.zeros((height, width + 1), np.int64)
    np.add.at(crossed, (row, column), 1)
    inside: BoolArray = np.cumsum(crossed[:, :width], axis=1) % 2 == 1
    return inside
