"""Single masks made plausible: small holes filled, small islands dropped.

SAM is known to hallucinate small disconnected pieces and to leave pinholes (Kirillov et al. 2023,
section 8 and appendix B). What is small is measured against the mask itself, so that nothing
depends on the resolution of the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]

Places = npt.NDArray[np.integer]
"""Rows and columns of pixels, of shape (K, 2); those that lie outside of an array do not count."""

ANSWER_SHARE = 0.02
"""Of the largest piece of a mask that answers a prompt: smaller holes and islands are nothing that
people meant. In a label image, where nobody looks at each, the shares are larger."""

_EIGHT = np.ones((3, 3), bool)
_NOWHERE = np.zeros((0, 2), np.intp)


def fill_holes(mask: BoolArray, max_area: float, beside_yx: Places = _NOWHERE) -> BoolArray:
    """Return a mask without holes of up to so many pixels.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        The mask, or a window that holds all of it.
    max_area : float
        Larger holes stay, infinity fills all. A hole is background (4 neighbours) that does not
        reach the border of the array.
    beside_yx : ndarray of shape (K, 2), integer
        Holes with one of these pixels stay.

    Examples
    --------
    >>> fill_holes(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool), 1).all()
    np.True_
    """
    if max_area < 1 or not mask.any():
        return mask
    holes, _ = ndimage.label(~mask)
    areas = np.bincount(holes.ravel())
    fills = areas <= max_area
    fills[0] = False
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        fills[edge] = False
    fills[_at(holes, beside_yx)] = False
    return mask | fills[holes] if fills.any() else mask


def drop_islands(mask: BoolArray, min_area: float) -> BoolArray:
    """Return a mask without pieces of fewer pixels; the largest piece always stays.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        Pieces are connected by 8 neighbours.
    min_area : float
        In pixels.

    Examples
    --------
    >>> drop_islands(np.array([[1, 1, 0, 1]], bool), 2).tolist()
    [[True, True, False, False]]
    """
    pieces, areas = _pieces(mask)
    return _of_area(mask, pieces, areas, min(min_area, areas.max()))


def clean_mask(
    mask: BoolArray,
    *,
    hole_share: float,
    island_share: float,
    on_yx: Places = _NOWHERE,
    beside_yx: Places = _NOWHERE,
) -> BoolArray:
    """Return a mask without holes and islands that are small beside it.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
    hole_share, island_share : float
        0 to 1, of the mask's largest piece: smaller holes are filled and smaller pieces dropped; 0
        leaves them.
    on_yx, beside_yx : ndarray of shape (K, 2), integer
        Pixels that somebody said are on the object and beside it: pieces with one of the first and
        holes with one of the second stay, however small.

    Examples
    --------
    >>> ring = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]], bool)
    >>> clean_mask(ring, hole_share=0.2, island_share=0.2).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0]])
    """
    if hole_share <= 0 and island_share <= 0:
        return mask
    pieces, areas = _pieces(mask)
    largest = areas.max()
    if island_share > 0:
        areas[_at(pieces, on_yx)] = largest
        areas[0] = 0
        mask = _of_area(mask, pieces, areas, island_share * largest)
    return fill_holes(mask, hole_share * largest, beside_yx) if hole_share > 0 else mask


def _at(labels: npt.NDArray[np.int32], places: Places) -> npt.NDArray[np.int32]:
    """Return the labels at those places that lie in the array."""
    inside = ((places >= 0) & (places < labels.shape)).all(axis=1)
    rows, columns = places[inside].T
    found: npt.NDArray[np.int32] = labels[rows, columns]
    return found


def _pieces(mask: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the connected pieces as labels, and the area of each, 0 for the background."""
    pieces, count = ndimage.label(mask, structure=_EIGHT)
    if count <= 1:  # counted without another pass over labels
        return pieces, np.array([0, np.count_nonzero(mask)])
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    return pieces, areas


def _of_area(
    mask: BoolArray,
    pieces: npt.NDArray[np.int32],
    areas: npt.NDArray[np.int64],
    min_area: float,
) -> BoolArray:
    """Return the pieces of a mask that are large enough."""
    stays = areas >= min_area
    stays[0] = False
    if stays[1:].all():
        return mask
    kept: BoolArray = stays[pieces]
    return kept


def stability_scores(
    areas_inner: npt.NDArray[np.integer] | int, areas_outer: npt.NDArray[np.integer] | int
) -> npt.NDArray[np.float64]:
    """Return how little masks change with the threshold (Kirillov et al. 2023, appendix B).

    Parameters
    ----------
    areas_inner, areas_outer : ndarray of the same shape, or int
        Pixels above a higher and above a lower threshold.

    Returns
    -------
    ndarray of float64
        IoU of the two masks, one of which holds the other: 1 is stable; 0 for empty masks.

    Examples
    --------
    >>> stability_scores(np.array([3, 0, 0]), np.array([4, 4, 0]))
    array([0.75, 0.  , 0.  ])
    """
    return np.asarray(areas_inner / np.maximum(areas_outer, 1), np.float64)
