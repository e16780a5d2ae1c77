"""Which of many overlapping masks to keep: non-maximum suppression on the masks themselves.

Boxes of slanted or nested objects overlap where the objects do not, so masks are compared bit by
bit: 64 cells at a time, only those whose boxes meet, and only within the box of one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_BITS_OF_BYTE = np.array([bin(value).count("1") for value in range(256)], np.uint8)


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """Masks of one size, a bit for each cell.

    Parameters
    ----------
    bits : ndarray of shape (n, h, words), uint64
        Word ``k`` of a row holds its columns ``64 k`` to ``64 k + 63``.
    areas : ndarray of shape (n,), int64
        Cells of each mask.
    boxes_xyxy : ndarray of shape (n, 4), int64
        First and last column and row; ``(0, 0, -1, -1)`` for empty masks.
    """

    bits: npt.NDArray[np.uint64]
    areas: IntArray
    boxes_xyxy: IntArray

    @classmethod
    def pack(cls, masks: npt.NDArray[np.bool_]) -> PackedMasks:
        """Pack masks.

        Parameters
        ----------
        masks : ndarray of shape (n, h, w), bool
        """
        count, height, width = masks.shape
        rows = np.zeros((count, height, -(-width // 64) * 8), np.uint8)
        rows[..., : -(-width // 8)] = np.packbits(masks, axis=2)
        bits = rows.view(np.uint64)
        return cls(bits, _count_bits(bits), mask_boxes(masks))

    @classmethod
    def concatenate(cls, parts: list[PackedMasks]) -> PackedMasks:
        """Return the masks of several packs of the same size as one."""
        return cls(
            np.concatenate([part.bits for part in parts]),
            np.concatenate([part.areas for part in parts]),
            np.concatenate([part.boxes_xyxy for part in parts]),
        )

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.areas)

    def choose(self, which: npt.NDArray[np.integer]) -> PackedMasks:
        """Return some of the masks, by their indices."""
        return PackedMasks(self.bits[which], self.areas[which], self.boxes_xyxy[which])

    def unpack(self, index: int) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
        """Return one mask, not an empty one, within its box.

        Returns
        -------
        window : (slice, slice)
            Rows and columns of the box.
        mask : ndarray of the window's shape, bool
        """
        left, top, right, bottom = self.boxes_xyxy[index].tolist()
        rows = np.ascontiguousarray(self.bits[index, top : bottom + 1])
        cells = np.unpackbits(rows.view(np.uint8), axis=1)[:, left : right + 1]
        return (slice(top, bottom + 1), slice(left, right + 1)), cells.astype(bool)

    def shared(self, index: int, others: IntArray) -> IntArray:
        """Return how many cells one mask shares with each of some others.

        Parameters
        ----------
        index : int
            The mask; not an empty one.
        others : ndarray of shape (m,), integer
            Indices of the masks to compare it with.

        Returns
        -------
        ndarray of shape (m,), int64

        Raises
        ------
        IndexError
            If there is no such mask.
        """
        left, top, right, bottom = self.boxes_xyxy[index]
        rows, words = slice(top, bottom + 1), slice(left // 64, right // 64 + 1)
        return _count_bits(self.bits[others, rows, words] & self.bits[index, rows, words])


def suppress(
    masks: PackedMasks,
    scores: npt.NDArray[np.floating],
    *,
    max_iou: float,
    max_containment: float = 1.0,
) -> IntArray:
    """Return the masks that are no duplicates of better ones.

    Parameters
    ----------
    masks : PackedMasks
    scores : ndarray of shape (n,)
        The better of two is the one with the higher score; of equal ones the first.
    max_iou : float
        A mask goes when its IoU with a better one is larger.
    max_containment : float
        A mask goes when it and a better one share more than this part of the smaller of the two; 1
        lets masks lie within each other.

    Returns
    -------
    ndarray of int64
        Indices of masks that stay, best first. Empty masks do not stay.

    Raises
    ------
    ValueError
        If there is not one score for each mask.
    """
    if len(scores) != len(masks):
        raise ValueError(f"scores must have one value for each of {len(masks)}, got {len(scores)}")
    order = np.argsort(-np.asarray(scores), kind="stable")
    order = order[masks.areas[order] > 0]
    areas = masks.areas[order]
    boxes: IntArray = np.ascontiguousarray(masks.boxes_xyxy[order].T)
    left, top, right, bottom = boxes
    stays: npt.NDArray[np.bool_] = np.ones(len(order), bool)
    for place, index in enumerate(order):
        if not stays[place]:
            continue
        after = slice(place + 1, None)
        meets = (left[after] <= right[place]) & (right[after] >= left[place]) & stays[after]
        meets &= (top[after] <= bottom[place]) & (bottom[after] >= top[place])
        near = place + 1 + np.flatnonzero(meets)
        if not near.size:
            continue
        shared = masks.shared(index, order[near])
        is_same = shared > max_iou * (areas[near] + areas[place] - shared)
        is_same |= shared > max_containment * np.minimum(areas[near], areas[place])
        stays[near[is_same]] = False
    return order[stays]


def mask_boxes(masks: npt.NDArray[np.bool_]) -> IntArray:
    """Return first and last column and row (x0, y0, x1, y1) of masks of shape (n, h, w).

    Examples
    --------
    >>> mask_boxes(np.array([[[False, True, True], [False, False, False]]])).tolist()
    [[1, 0, 2, 0]]
    """
    count, height, width = masks.shape
    boxes = np.zeros((count, 4), np.int64)
    for axis, length, first, last in ((1, width, 0, 2), (2, height, 1, 3)):
        used: npt.NDArray[np.bool_] = np.logical_or.reduce(masks, axis=axis)
        boxes[:, first] = used.argmax(axis=1)
        boxes[:, last] = length - 1 - used[:, ::-1].argmax(axis=1)
    boxes[~masks.any(axis=(1, 2))] = (0, 0, -1, -1)
    return boxes


def _count_bits(words: npt.NDArray[np.uint64]) -> IntArray:
    """Return the number of ones in each mask (n, h, words)."""
    counts: IntArray
    if hasattr(np, "bitwise_count"):  # NumPy 2
        counts = np.bitwise_count(words).sum(axis=(1, 2), dtype=np.int64)
    else:
        bits_of = _BITS_OF_BYTE[np.ascontiguousarray(words).view(np.uint8)]
        counts = bits_of.sum(axis=(1, 2), dtype=np.int64)
    return counts
