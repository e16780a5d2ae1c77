"""Non-maximum suppression on boxes, in the arithmetic of torchvision's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def suppress_boxes(
    boxes_xyxy: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], max_iou: float
) -> npt.NDArray[np.int64]:
    """Return the boxes that no better box overlaps by much.

    Parameters
    ----------
    boxes_xyxy : ndarray of shape (n, 4)
    scores : ndarray of shape (n,)
        Of equal ones, the first is better.
    max_iou : float
        A box goes when its IoU with one that stays is larger. Boxes without area always stay.

    Returns
    -------
    ndarray of int64
        Indices, best first.

    Examples
    --------
    >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    >>> suppress_boxes(boxes, np.array([0.8, 0.9, 0.7]), 0.7).tolist()
    [1, 2]
    """
    boxes = boxes_xyxy.astype(np.float32)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept = np.zeros(len(boxes), np.int64)
    count = 0
    for index in np.argsort(-scores, kind="stable"):
        better = kept[:count]
        low = np.maximum(boxes[index, :2], boxes[better, :2])
        high = np.minimum(boxes[index, 2:], boxes[better, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        union = areas[better] + areas[index] - shared
        # Not as a product: rounding would differ. Float64, as C++ compares with a double.
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        if not (iou.astype(np.float64) > max_iou).any():
            kept[count] = index
            count += 1
    return kept[:count].copy()
