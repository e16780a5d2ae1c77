"""Which edge pixels of two drawings are the same edge: matching within a tolerance.

The rule of the Berkeley benchmark (Martin, Fowlkes and Malik 2004, appendix B; Arbelaez et al.
2011): an edge pixel may be paired with one of the other drawing that lies no farther than a
tolerance (0.0075 of the picture's diagonal), each pixel with one at most, so that a doubled line
does not count twice. Of all such pairings the benchmark takes the cheapest, where a pixel left
alone costs a hundred times the tolerance: as many pairs as possible, and of those pairings the
shortest. The benchmark's code looks for it among a few random candidates; here it is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

BoolArray = NDArray[np.bool_]

TOLERANCE = 0.0075
"""Of the diagonal: how far apart the same edge may be drawn."""

_ALONE = 100.0
"""Cost of a pixel without a partner, in tolerances: that of the benchmark's code."""

_LEAST_COST = 1e-6  # a sparse matrix has no entry for 0, the cost of two pixels in one place
_ROUNDING = 1e-9


class EdgeMatch(NamedTuple):
    """Which edge pixels have a partner.

    Attributes
    ----------
    found, true : ndarray of shape (H, W), bool
        The pixels of each drawing that are paired; as many in one as in the other.
    """

    found: BoolArray
    true: BoolArray


def tolerance_of(size_hw: tuple[int, int], share: float = TOLERANCE) -> float:
    """Return how many pixels apart the same edge may be drawn in a picture of a size.

    Examples
    --------
    >>> round(tolerance_of((321, 481)), 2)
    4.34
    """
    return float(share * np.hypot(*size_hw))


def match_edges(found: BoolArray, true: BoolArray, max_distance: float) -> EdgeMatch:
    """Pair the edge pixels of two drawings, each with one of the other at most.

    Parameters
    ----------
    found, true : ndarray of shape (H, W), bool
        Edge pixels; lines one pixel wide.
    max_distance : float
        In pixels, between their centres; 0 or more.

    Returns
    -------
    EdgeMatch

    Raises
    ------
    ValueError
        If the drawings differ in size, or the distance is negative.

    Examples
    --------
    >>> line, moved = np.eye(5, dtype=bool), np.roll(np.eye(5, dtype=bool), 1, axis=1)
    >>> int(match_edges(line, moved, 1).found.sum()), int(match_edges(line, moved, 0.5).found.sum())
    (4, 0)
    """
    if found.shape != true.shape or found.ndim != 2:
        raise ValueError(
            f"found and true must have one shape (H, W), got {found.shape} and {true.shape}"
        )
    if not max_distance >= 0:
        raise ValueError(f"max_distance must be 0 or more, got {max_distance}")
    pixels, others = np.argwhere(found), np.argwhere(true)
    match = EdgeMatch(np.zeros_like(found), np.zeros_like(true))
    if not len(pixels) or not len(others):
        return match
    near = KDTree(pixels).sparse_distance_matrix(
        KDTree(others), max_distance + _ROUNDING, output_type="coo_matrix"
    )
    # Whoever finds no partner takes a column of its own, for a price. SciPy 1.12 wants 32 bits.
    each = np.arange(len(pixels), dtype=np.int32)
    graph = csr_array(
        (
            np.concatenate(
                [near.data + _LEAST_COST, np.full(each.size, _ALONE * max(max_distance, 1.0))]
            ),
            (
                np.concatenate([near.row.astype(np.int32), each]),
                np.concatenate([near.col.astype(np.int32), len(others) + each]),
            ),
        ),
        shape=(len(pixels), len(others) + len(pixels)),
    )
    rows, columns = min_weight_full_bipartite_matching(graph)
    paired = columns < len(others)
    match.found[tuple(pixels[rows[paired]].T)] = True
    match.true[tuple(others[columns[paired]].T)] = True
    return match
