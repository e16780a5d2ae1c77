"""How well one labelling agrees with another.

Metrics of two label images read the sparse table of their overlaps
(:func:`~sam_plugins.model.evaluation.overlaps.overlap_table`).

Pixels to *ignore* belong to no object on either side. Pictures whose annotation is not *complete*
have visible objects without a mask: what was predicted there may well be right, so no false
positives are counted on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sam_plugins.model.evaluation.overlaps import (
    BoolArray,
    FloatArray,
    IntArray,
    OverlapTable,
    check_same_shape,
    overlap_table,
)

MSA_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU .50, .55, ..., .95: the thresholds of mSA (Data Science Bowl 2018; micro-sam; the steps of
COCO's AP)."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of true and predicted objects, each object in one pair at most.

    Attributes
    ----------
    rows, columns : ndarray of shape (k,), int64
        Indices into the table's ``true_ids`` and ``predicted_ids``.
    ious : ndarray of shape (k,), float64
        IoU of each pair.
    n_true, n_predicted : int
        Objects that could be matched. A predicted object left alone with more than half of its
        pixels in the ignored region is not counted (the rule for void pixels in Kirillov et al.
        2019, section 4.1).
    """

    rows: IntArray
    columns: IntArray
    ious: FloatArray
    n_true: int
    n_predicted: int

    @property
    def true_positives(self) -> int:
        """Number of pairs."""
        return self.rows.size

    @property
    def false_negatives(self) -> int:
        """True objects that nothing matches."""
        return self.n_true - self.rows.size

    @property
    def false_positives(self) -> int:
        """Predicted objects that match nothing."""
        return self.n_predicted - self.rows.size


@dataclass(frozen=True)
class PanopticQuality:
    """Panoptic quality and its factors, each in [0, 1] (Kirillov et al. 2019, eq. 1 and 2).

    Attributes
    ----------
    pq, sq, rq : float
        Panoptic, segmentation and recognition quality; ``pq = sq * rq``.
    """

    pq: float
    sq: float
    rq: float


@dataclass(frozen=True)
class SplitMergeErrors:
    """Objects cut up and objects run together; see :func:`split_merge_errors`."""

    splits: int
    merges: int


def mask_iou(first: BoolArray, second: BoolArray, *, ignore: BoolArray | None = None) -> float:
    """Return intersection over union of two masks.

    Parameters
    ----------
    first, second : ndarray of the same shape, bool
        The masks; the order does not matter.
    ignore : ndarray of the same shape, bool, optional
        True where pixels do not count.

    Returns
    -------
    float
        In [0, 1]. Two empty masks agree: 1.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> mask_iou(np.array([True, True, False]), np.array([False, True, True]))
    0.3333333333333333
    """
    shared, size_first, size_second = _mask_counts(first, second, ignore)
    union = size_first + size_second - shared
    return shared / union if union else 1.0


def mask_dice(first: BoolArray, second: BoolArray, *, ignore: BoolArray | None = None) -> float:
    """Return the Dice coefficient of two masks, ``2 |A and B| / (|A| + |B|)`` (Dice 1945).

    Parameters
    ----------
    first, second : ndarray of the same shape, bool
        The masks; the order does not matter.
    ignore : ndarray of the same shape, bool, optional
        True where pixels do not count.

    Returns
    -------
    float
        In [0, 1]. Two empty masks agree: 1.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    shared, size_first, size_second = _mask_counts(first, second, ignore)
    total = size_first + size_second
    return 2 * shared / total if total else 1.0


def match_objects(table: OverlapTable, threshold: float, *, strict: bool = False) -> Matching:
    """Pair true and predicted objects whose IoU reaches a threshold.

    As many pairs as possible, and among those choices as much IoU as possible.

    Above 0.5 an object has one partner at most (Kirillov et al. 2019, theorem 1), and nothing is
    left to choose. At 0.5 exactly and below, objects that compete are assigned by the Hungarian
    algorithm; the others are not sent through it.

    Parameters
    ----------
    table : OverlapTable
        From :func:`overlap_table`.
    threshold : float
        In (0, 1].
    strict : bool
        Ask for more than the threshold instead of at least the threshold.

    Raises
    ------
    ValueError
        If the threshold is outside (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be an IoU in (0, 1], got {threshold}")
    ious = table.ious
    # np.arange(0.5, 1, 0.05) holds 0.6000000000000001: a threshold may be off by rounding errors.
    wanted = ious > threshold + 1e-12 if strict else ious >= threshold - 1e-12
    rows, columns, values = table.rows[wanted], table.columns[wanted], ious[wanted]
    is_void = table.predicted_ignored > table.predicted_areas
    # Of two that are as good, the one that would count as false if it were left alone: the result
    # must not hang on how objects are numbered.
    kept = _assign(rows, columns, values + 1e-9 * ~is_void[columns])
    rows, columns, values = rows[kept], columns[kept], values[kept]
    alone = np.ones(table.predicted_ids.size, dtype=bool)
    alone[columns] = False
    void = alone & is_void
    return Matching(
        rows, columns, values, table.true_ids.size, table.predicted_ids.size - int(void.sum())
    )


def average_precisions(
    table: OverlapTable, thresholds: tuple[float, ...] = MSA_THRESHOLDS, *, complete: bool = True
) -> FloatArray:
    """Return ``TP / (TP + FP + FN)`` at each IoU threshold.

    This is the "average precision" of the Data Science Bowl 2018, StarDist and Cellpose (Stringer
    et al. 2021, Methods), not the area under a precision-recall curve that COCO calls by that name.
    Its mean over :data:`MSA_THRESHOLDS` is the mean segmentation accuracy (mSA) of micro-sam
    (Archit et al. 2025, Methods).

    Parameters
    ----------
    table : OverlapTable
        From :func:`overlap_table`.
    thresholds : tuple of float
        IoU, each in (0, 1].
    complete : bool
        Whether every visible object carries a mask; if not, false positives are not counted.

    Returns
    -------
    ndarray of shape (len(thresholds),), float64
        In [0, 1]. Nothing to find and nothing found is 1; if the annotation is not complete, it is
        NaN: no evidence.
    """
    if table.true_ids.size == 0 and not complete:
        return np.full(len(thresholds), np.nan)
    values = []
    for threshold in thresholds:
        found = match_objects(table, threshold)
        total = (
            found.true_positives
            + found.false_negatives
            + (found.false_positives if complete else 0)
        )
        values.append(found.true_positives / total if total else 1.0)
    return np.array(values, dtype=np.float64)


def mean_segmentation_accuracy(
    labels_true: NDArray[Any],
    labels_predicted: NDArray[Any],
    *,
    ignore: BoolArray | None = None,
    complete: bool = True,
) -> float:
    """Return mSA: the mean of ``TP / (TP + FP + FN)`` over the IoU thresholds .50, .55, ..., .95.

    Parameters
    ----------
    labels_true, labels_predicted : ndarray of the same shape, integer
        Label images, 0 is background.
    ignore : ndarray of the same shape, bool, optional
        True where pixels do not count.
    complete : bool
        Whether every visible object carries a mask; if not, false positives are not counted.

    Returns
    -------
    float
        In [0, 1], or NaN; see :func:`average_precisions`, which also names the source.
    """
    table = overlap_table(labels_true, labels_predicted, ignore=ignore)
    return float(average_precisions(table, complete=complete).mean())


def panoptic_quality(table: OverlapTable, *, complete: bool = True) -> PanopticQuality:
    """Return panoptic quality for one class, with its factors.

    Source: Kirillov et al. 2019, "Panoptic Segmentation", section 4.

    Parameters
    ----------
    table : OverlapTable
        From :func:`overlap_table`.
    complete : bool
        Whether every visible object carries a mask; if not, false positives are not counted.

    Returns
    -------
    PanopticQuality
        Segmentation quality is the mean IoU of the pairs above 0.5, recognition quality is
        ``TP / (TP + FP / 2 + FN / 2)``. Nothing to find and nothing found is 1 (NaN if the
        annotation is not complete).
    """
    found = match_objects(table, 0.5, strict=True)
    false_positives = found.false_positives if complete else 0
    if found.n_true + false_positives == 0:
        value = 1.0 if complete else np.nan
        return PanopticQuality(value, value, value)
    sq = float(found.ious.mean()) if found.true_positives else 0.0
    rq = found.true_positives / (
        found.true_positives + 0.5 * false_positives + 0.5 * found.false_negatives
    )
    return PanopticQuality(sq * rq, sq, rq)


def split_merge_errors(table: OverlapTable) -> SplitMergeErrors:
    """Count objects that were cut up and objects that were run together.

    A predicted object is a piece of a true one if more than half of its pixels lie in it; every
    piece of an object beyond the first is one split. Merges are the same with the roles exchanged.
    (Caicedo et al. 2019, "Evaluation of deep learning strategies for nucleus segmentation", count
    the same two errors, by overlap with the other side's objects; here a majority decides, so that
    a few pixels across a border are no error.)

    Parameters
    ----------
    table : OverlapTable
        From :func:`overlap_table`.

    Examples
    --------
    >>> true, predicted = np.array([[1, 1, 1, 1, 2, 2]]), np.array([[1, 1, 2, 2, 3, 3]])
    >>> split_merge_errors(overlap_table(true, predicted))
    SplitMergeErrors(splits=1, merges=0)
    """
    pieces = 2 * table.intersections > table.predicted_areas[table.columns]
    parts = 2 * table.intersections > table.true_areas[table.rows]
    splits = int(pieces.sum()) - np.unique(table.rows[pieces]).size
    merges = int(parts.sum()) - np.unique(table.columns[parts]).size
    return SplitMergeErrors(splits, merges)


def _mask_counts(
    first: BoolArray, second: BoolArray, ignore: BoolArray | None
) -> tuple[int, int, int]:
    """Return the pixels shared by two masks, and of each, without the ignored ones."""
    check_same_shape(first, second, ("first", "second"))
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if ignore is not None:
        check_same_shape(first, ignore, ("first", "ignore"))
        counted = ~np.asarray(ignore, dtype=bool)
        first, second = first & counted, second & counted
    shared = np.count_nonzero(first & second)
    return int(shared), int(np.count_nonzero(first)), int(np.count_nonzero(second))


def _assign(rows: IntArray, columns: IntArray, values: FloatArray) -> IntArray:
    """Return which of the candidate pairs to keep so that no row and no column appears twice."""
    if rows.size == 0:
        return np.empty(0, np.int64)
    _, row_of, row_uses = np.unique(rows, return_inverse=True, return_counts=True)
    _, column_of, column_uses = np.unique(columns, return_inverse=True, return_counts=True)
    if row_uses.max() == 1 and column_uses.max() == 1:
        return np.arange(rows.size)
    n, m = row_uses.size, column_uses.size
    graph = coo_array((np.ones(rows.size), (row_of, column_of + n)), shape=(n + m, n + m))
    _, component = connected_components(graph, directed=False)
    component_of_pair = component[row_of]
    kept = []
    order = np.argsort(component_of_pair, kind="stable")
    starts = np.flatnonzero(np.diff(component_of_pair[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        if members.size > 1:
            members = members[_assign_component(rows[members], columns[members], values[members])]
        kept.append(members)
    return np.sort(np.concatenate(kept))


def _assign_component(rows: IntArray, columns: IntArray, values: FloatArray) -> IntArray:
    """Return which pairs of competing objects to keep: most pairs first, then most IoU."""
    _, row_of = np.unique(rows, return_inverse=True)
    _, column_of = np.unique(columns, return_inverse=True)
    shape = (int(row_of.max()) + 1, int(column_of.max()) + 1)
    gain = np.zeros(shape)
    gain[row_of, column_of] = 1.0 + values / (2 * min(shape))
    pair_at = np.full(shape, -1, dtype=np.int64)
    pair_at[row_of, column_of] = np.arange(rows.size)
    chosen: IntArray = pair_at[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]
