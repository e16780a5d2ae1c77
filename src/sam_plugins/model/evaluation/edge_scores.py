"""How well edges agree with those that people drew: the figures of the Berkeley benchmark.

A map of edge strengths is cut at many thresholds, thinned, and matched with every annotator's
drawing (:mod:`~sam_plugins.model.evaluation.edge_matching`). Recall is the share of all drawn
pixels that are matched, precision the share of found pixels that match somebody's (Martin, Fowlkes
and Malik 2004; Arbelaez et al. 2011).

- *ODS*: the best F-measure at one threshold for all pictures.
- *OIS*: F of the sums when each picture has its own best threshold.
- *AP*: area under precision over recall.
- *R50*: recall where precision is a half (as in Dollar and Zitnick's toolbox, 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.edge_matching import match_edges, tolerance_of

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

THRESHOLDS = 99
"""Of the benchmark: 0.01 to 0.99."""

_BETWEEN = 100  # steps between two thresholds in which the best one is looked for
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class EdgeCounts:
    """What was matched of one picture at each of T thresholds.

    Attributes
    ----------
    thresholds : ndarray of shape (T,), float
        Ascending, in (0, 1).
    matched_true, true : ndarray of shape (T,), int64
        Drawn pixels that were found, and all, over the annotators.
    matched_found, found : ndarray of shape (T,), int64
        Found pixels that somebody drew, and all.
    """

    thresholds: FloatArray
    matched_true: IntArray
    true: IntArray
    matched_found: IntArray
    found: IntArray

    @property
    def table(self) -> FloatArray:
        """The four counts side by side, shape (T, 4)."""
        return np.stack(
            [self.matched_true, self.true, self.matched_found, self.found], axis=1
        ).astype(np.float64)


def count_edges(
    strength: NDArray[Any],
    drawings: Sequence[BoolArray],
    *,
    thresholds: int = THRESHOLDS,
    counted: BoolArray | None = None,
) -> EdgeCounts:
    """Match a map of edges with what people drew, at many thresholds.

    Parameters
    ----------
    strength : ndarray of shape (H, W), float
        In [0, 1].
    drawings : sequence of ndarray of shape (H, W), bool
        The edges of each annotator, one pixel wide.
    thresholds : int
        How many, evenly between 0 and 1.
    counted : ndarray of shape (H, W), bool, optional
        False where nothing should be scored.

    Raises
    ------
    ValueError
        If nobody drew, sizes differ, strengths lie outside [0, 1], or ``thresholds`` is below 1.
    """
    from skimage.morphology import thin

    if not drawings:
        raise ValueError("drawings must hold the edges of one annotator or more, got none")
    if thresholds < 1:
        raise ValueError(f"thresholds must be 1 or more, got {thresholds}")
    if not (strength.min() >= 0 and strength.max() <= 1):
        raise ValueError(
            f"strength must lie in [0, 1], got {strength.min():g} to {strength.max():g}"
        )
    levels = np.arange(1, thresholds + 1) / (thresholds + 1)
    wanted = [drawing if counted is None else drawing & counted for drawing in drawings]
    limit = tolerance_of((strength.shape[0], strength.shape[1]))
    total = sum(int(np.count_nonzero(drawing)) for drawing in wanted)
    rows: list[tuple[int, int, int, int]] = []
    before = None
    for level in levels:
        edges = strength >= level
        if before is not None and np.array_equal(edges, before):
            rows.append(rows[-1])
            continue
        before = edges
        lines: BoolArray = thin(edges)  # type: ignore[no-untyped-call]
        if counted is not None:
            lines = lines & counted
        somebody = np.zeros(lines.shape, bool)
        matched = 0
        for drawing in wanted:
            match = match_edges(lines, drawing, limit)
            somebody |= match.found
            matched += int(np.count_nonzero(match.true))
        rows.append((matched, total, int(np.count_nonzero(somebody)), int(np.count_nonzero(lines))))
    columns = np.array(rows, np.int64).T
    return EdgeCounts(levels, *columns)


def precision_recall(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return precision and recall of counts (..., 4); 0 where nothing was found or drawn."""
    recall = np.divide(
        counts[..., 0], counts[..., 1], where=counts[..., 1] > 0, out=np.zeros(counts.shape[:-1])
    )
    precision = np.divide(
        counts[..., 2], counts[..., 3], where=counts[..., 3] > 0, out=np.zeros(counts.shape[:-1])
    )
    return precision, recall


def f_measure(precision: FloatArray, recall: FloatArray) -> FloatArray:
    """Return the harmonic mean of precision and recall; 0 where both are."""
    total = precision + recall
    values: FloatArray = np.divide(
        2 * precision * recall, total, where=total > 0, out=np.zeros_like(total)
    )
    return values


def best_f(counts: FloatArray) -> tuple[float, float]:
    """Return the best F-measure of counts (T, 4), and the place of its threshold.

    Precision and recall are interpolated between neighbouring thresholds, as the benchmark does.

    Returns
    -------
    (float, float)
        F, and a place from 0 to T - 1.
    """
    precision, recall = precision_recall(counts)
    places = np.linspace(0, len(counts) - 1, (len(counts) - 1) * _BETWEEN + 1)
    each = np.arange(len(counts))
    values = f_measure(np.interp(places, each, precision), np.interp(places, each, recall))
    best = int(values.argmax())
    return float(values[best]), float(places[best])


def ods(counts: FloatArray) -> float:
    """Return the best F of the summed counts of pictures, shape (n, T, 4)."""
    return best_f(counts.sum(axis=0))[0]


def ois(counts: FloatArray) -> float:
    """Return F of the sums of each picture's counts at its own best threshold."""
    return _f_of_sum(best_counts(counts))


def best_counts(counts: FloatArray) -> FloatArray:
    """Return the counts of each picture at its best threshold, (n, T, 4) to (n, 4)."""
    precision, recall = precision_recall(counts)
    best = f_measure(precision, recall).argmax(axis=1)
    chosen: FloatArray = counts[np.arange(len(counts)), best]
    return chosen


def _f_of_sum(counts: FloatArray) -> float:
    """Return F of summed counts (n, 4)."""
    precision, recall = precision_recall(counts.sum(axis=0))
    return float(f_measure(precision[None], recall[None])[0])


def average_precision(counts: FloatArray) -> float:
    """Return the area under precision over recall of summed counts (T, 4).

    Precision is read at recall 0, 0.01, ..., 1 by linear interpolation; where no threshold reaches
    so high (or so low) a recall it counts as 0. Each of the 101 values weighs 0.01, as in the
    benchmark.
    """
    precision, recall = precision_recall(counts)
    order = np.argsort(recall, kind="stable")
    at, first = np.unique(recall[order], return_index=True)
    values = np.interp(_RECALLS, at, precision[order][first], left=0, right=0)
    return float(values.sum() / 100)


def recall_at_half(counts: FloatArray) -> float:
    """Return the recall of summed counts (T, 4) where precision is a half.

    Where the least precision is above a half, the recall there.
    """
    precision, recall = precision_recall(counts)
    some = counts[:, 3] > 0
    if not some.any():
        return 0.0
    # The best recall for each precision, so that thresholds beyond the turn do not count.
    order = np.lexsort((-recall[some], precision[some]))
    at, first = np.unique(precision[some][order], return_index=True)
    if at[-1] < 0.5:
        return 0.0
    return float(np.interp(max(0.5, at[0]), at, recall[some][order][first]))
