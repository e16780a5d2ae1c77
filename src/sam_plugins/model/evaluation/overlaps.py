"""Which objects of two labellings share how many pixels.

Everything that compares two label images starts from one sparse table of overlaps: which true
object shares how many pixels with which predicted one. It costs two passes over the picture,
whatever the number of objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OverlapTable:
    """Which true and predicted objects share how many pixels (ignored pixels left out).

    Attributes
    ----------
    true_ids, predicted_ids : ndarray of shape (n,) and (m,), int64
        The labels of the objects, ascending. Objects that lie wholly under ignored pixels are not
        listed.
    true_areas, predicted_areas : ndarray of shape (n,) and (m,), int64
        Pixels of each object that count.
    predicted_ignored : ndarray of shape (m,), int64
        Pixels of each predicted object that do not count, because they lie in the ignored region.
    rows, columns : ndarray of shape (k,), int64
        Indices into ``true_ids`` and ``predicted_ids`` of every pair that overlaps, sorted by row,
        then column.
    intersections : ndarray of shape (k,), int64
        Shared pixels of each pair, 1 or more.
    """

    true_ids: IntArray
    predicted_ids: IntArray
    true_areas: IntArray
    predicted_areas: IntArray
    predicted_ignored: IntArray
    rows: IntArray
    columns: IntArray
    intersections: IntArray

    @property
    def ious(self) -> FloatArray:
        """IoU of every pair that overlaps, shape (k,)."""
        unions = (
            self.true_areas[self.rows] + self.predicted_areas[self.columns] - self.intersections
        )
        return self.intersections / unions

    def iou_matrix(self) -> FloatArray:
        """Return the IoU of all pairs, shape (n, m); most of it zeros, so only for few objects."""
        matrix = np.zeros((self.true_ids.size, self.predicted_ids.size))
        matrix[self.rows, self.columns] = self.ious
        return matrix


def overlap_table(
    labels_true: NDArray[Any], labels_predicted: NDArray[Any], *, ignore: BoolArray | None = None
) -> OverlapTable:
    """Count which objects of two label images share how many pixels.

    Parameters
    ----------
    labels_true, labels_predicted : ndarray of the same shape, integer
        Label images or volumes, 0 is background; ids need not be consecutive.
    ignore : ndarray of the same shape, bool, optional
        True where pixels do not count.

    Returns
    -------
    OverlapTable
        Sparse: only pairs that share a pixel are listed.

    Raises
    ------
    ValueError
        If the shapes differ or a label is negative.
    TypeError
        If the labels are not integers.

    Examples
    --------
    >>> table = overlap_table(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 0]]))
    >>> table.true_ids, table.predicted_ids, table.ious.round(3)
    (array([1, 2]), array([5]), array([0.667]))
    """
    true = _flat_labels("labels_true", labels_true)
    predicted = _flat_labels("labels_predicted", labels_predicted)
    check_same_shape(labels_true, labels_predicted, ("labels_true", "labels_predicted"))
    ignored_ids, ignored_counts = np.empty(0, np.int64), np.empty(0, np.int64)
    if ignore is not None:
        check_same_shape(labels_true, ignore, ("labels_true", "ignore"))
        outside = np.asarray(ignore, dtype=bool).ravel()
        ignored_ids, ignored_counts = np.unique(predicted[outside], return_counts=True)
        true, predicted = true[~outside], predicted[~outside]
    true_ids, true_areas, true_index = _compact(true)
    predicted_ids, predicted_areas, predicted_index = _compact(predicted)
    rows, columns, intersections = _count_pairs(
        true_index, predicted_index, true_ids.size, predicted_ids.size
    )
    predicted_ignored = np.zeros(predicted_ids.size, np.int64)
    _, where, source = np.intersect1d(
        predicted_ids, ignored_ids, assume_unique=True, return_indices=True
    )
    predicted_ignored[where] = ignored_counts[source]
    return OverlapTable(
        true_ids,
        predicted_ids,
        true_areas,
        predicted_areas,
        predicted_ignored,
        rows,
        columns,
        intersections,
    )


def check_same_shape(first: NDArray[Any], second: NDArray[Any], names: tuple[str, str]) -> None:
    """Raise if two arrays differ in shape."""
    if first.shape != second.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same shape, "
            f"got {first.shape} and {second.shape}; compare them on one pixel grid"
        )


def _flat_labels(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as one axis of integers, checked."""
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{name} must hold integers, got {labels.dtype}; convert with astype(int)")
    if np.issubdtype(labels.dtype, np.signedinteger) and labels.size and labels.min() < 0:
        raise ValueError(f"{name} must not be negative (0 is background), got {labels.min()}")
    return labels.ravel()


def _compact(labels: NDArray[Any]) -> tuple[IntArray, IntArray, IntArray]:
    """Return ids and areas of the objects, and per pixel the object's index + 1 (0: none)."""
    if labels.size == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    labels = labels.astype(np.int64, copy=False)
    # A table with a row for every possible id beats sorting the pixels, as long as it is small.
    if int(labels.max()) <= 4 * labels.size + 1024:
        counts = np.bincount(labels)
        counts[0] = 0
        ids = np.flatnonzero(counts)
        index_of = np.zeros(counts.size, np.int64)
        index_of[ids] = np.arange(1, ids.size + 1)
        return ids.astype(np.int64), counts[ids].astype(np.int64), index_of[labels]
    found, inverse, areas = np.unique(labels, return_inverse=True, return_counts=True)
    if found[0] == 0:
        return found[1:].astype(np.int64), areas[1:].astype(np.int64), inverse.astype(np.int64)
    return found.astype(np.int64), areas.astype(np.int64), inverse.astype(np.int64) + 1


def _count_pairs(
    true_index: IntArray, predicted_index: IntArray, n: int, m: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the overlapping pairs of object indices and their pixels."""
    both = (true_index > 0) & (predicted_index > 0)
    pairs = (true_index[both] - 1) * m + (predicted_index[both] - 1)
    if n * m <= 4 * true_index.size + 1024:
        table = np.bincount(pairs, minlength=n * m)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys, counts = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(keys, max(m, 1))
    return rows.astype(np.int64), columns.astype(np.int64), counts.astype(np.int64)
