"""COCO's way to pair masks with objects, and the IoU it needs, without drawing whole masks.

The rule of COCO's evaluation (Lin et al. 2014; cocodataset.org, "Detection Evaluation"): masks come
in the order of their scores, and each takes the object with the highest IoU that is still free, if
the IoU reaches the threshold. Objects outside of the range of sizes that is looked at are taken
only where no other can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.metrics import MSA_THRESHOLDS
from sam_plugins.model.evaluation.object_ious import shared_pixels
from sam_plugins.model.evaluation.prompts import TrueObject
from sam_plugins.model.inference.full_size import WindowMask

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

IOU_THRESHOLDS = MSA_THRESHOLDS
"""IoU .50, .55, ..., .95."""

AREA_RANGES: Mapping[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
"""Pixels of an object, both ends included, as COCO has them."""

UNMATCHED = np.iinfo(np.int64).max
"""In place of the mask of an object that none was found for."""


def mask_ious(
    masks: Sequence[WindowMask],
    objects: Sequence[TrueObject],
    *,
    counted: BoolArray | None = None,
) -> FloatArray:
    """Return the IoU of every mask with every object.

    Parameters
    ----------
    masks : sequence of M WindowMask
        Each within its window.
    objects : sequence of N TrueObject
    counted : ndarray of shape (H, W), bool, optional
        False where pixels are ignored, on both sides.

    Returns
    -------
    ndarray of shape (M, N), float64
        0 where nothing is shared.
    """
    true = [one.mask if counted is None else one.mask & counted[one.window] for one in objects]
    found = [mask if counted is None else mask & counted[window] for window, mask in masks]
    true_areas = np.array([np.count_nonzero(mask) for mask in true], np.float64)
    true_windows = np.array(
        [[side for part in one.window for side in (part.start, part.stop)] for one in objects],
        np.int64,
    ).reshape(-1, 4)
    ious = np.zeros((len(masks), len(objects)))
    for index, (window, _) in enumerate(masks):
        rows, columns = window
        meets = (true_windows[:, 0] < rows.stop) & (true_windows[:, 1] > rows.start)
        meets &= (true_windows[:, 2] < columns.stop) & (true_windows[:, 3] > columns.start)
        area = np.count_nonzero(found[index])
        for other in np.flatnonzero(meets).tolist():
            shared = shared_pixels(window, found[index], objects[other].window, true[other])
            if shared:
                ious[index, other] = shared / (area + true_areas[other] - shared)
    return ious


def match_in_order(
    ious: FloatArray,
    is_ignored: BoolArray,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> IntArray:
    """Return which mask takes each object, at each IoU threshold.

    Parameters
    ----------
    ious : ndarray of shape (M, N), float64
        Of M masks, best score first, and N objects.
    is_ignored : ndarray of shape (N,), bool
        Objects that are taken only where no other can be.
    thresholds : sequence of T float

    Returns
    -------
    ndarray of shape (T, N), int64
        Index of the mask, :data:`UNMATCHED` where there is none. As masks come in order, the pairs
        of the first K masks alone are those with an index below K.
    """
    result = np.full((len(thresholds), ious.shape[1]), UNMATCHED, np.int64)
    # Objects that count come first: among equals they win.
    order = np.argsort(is_ignored, kind="stable")
    candidates = [order[ious[mask, order] > 0] for mask in range(len(ious))]
    for row, threshold in enumerate(thresholds):
        taken = result[row]
        least = min(threshold, 1 - 1e-10)
        for mask, near in enumerate(candidates):
            best, best_iou = -1, least
            for one in near.tolist():
                if taken[one] != UNMATCHED:
                    continue
                if best >= 0 and not is_ignored[best] and is_ignored[one]:
                    break
                if ious[mask, one] >= best_iou:
                    best, best_iou = one, float(ious[mask, one])
            if best >= 0:
                taken[best] = mask
    return result


def outside(areas: IntArray, name: str) -> BoolArray:
    """Return which objects, by their pixels, lie outside of a range of :data:`AREA_RANGES`."""
    least, most = AREA_RANGES[name]
    result: BoolArray = (areas < least) | (areas > most)
    return result
