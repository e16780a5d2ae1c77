"""IoU of low-resolution mask logits with objects, at the size of the picture, without drawing it.

Masks are drawn in windows (:mod:`~sam_plugins.model.inference.full_size`): drawing thousands of
objects times four masks wholly would cost more than the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.prompts import TrueObject
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.io.windows import Window

BoolArray = NDArray[np.bool_]


def measure_ious(
    logits: NDArray[Any],
    objects: Sequence[TrueObject],
    sizes: SizeChain,
    *,
    threshold: float = 0.0,
    counted: BoolArray | None = None,
) -> NDArray[np.float64]:
    """Return the IoU of every mask of every object with the object itself.

    Parameters
    ----------
    logits : ndarray of shape (N, C, h, w), float
        Low-resolution logits of C masks for each of N objects.
    objects : sequence of N TrueObject
        What each prompt meant.
    sizes : SizeChain
        From the logits to the picture.
    threshold : float
        A pixel belongs to a mask where its logit is larger.
    counted : ndarray of shape (H, W), bool, optional
        False where pixels are ignored, on both sides. All count by default.

    Returns
    -------
    ndarray of shape (N, C), float64
        In [0, 1]; NaN for an object of which no pixel counts.

    Raises
    ------
    ValueError
        If the logits are not C masks of the expected size for each object.
    """
    if (
        logits.ndim != 4
        or len(objects) != logits.shape[0]
        or logits.shape[2:] != tuple(sizes.low_res_hw)
    ):
        height, width = sizes.low_res_hw
        raise ValueError(
            f"logits must have shape ({len(objects)}, C, {height}, {width}), got {logits.shape}"
        )
    values = logits.astype(np.float32, copy=False)
    result = np.empty(logits.shape[:2])
    for index, true in enumerate(objects):
        mask = true.mask if counted is None else true.mask & counted[true.window]
        area = int(np.count_nonzero(mask))
        for which in range(logits.shape[1]):
            window, predicted = sizes.draw(values[index, which], threshold)
            if counted is not None:
                predicted = predicted & counted[window]
            shared = shared_pixels(true.window, mask, window, predicted)
            union = area + int(np.count_nonzero(predicted)) - shared
            result[index, which] = shared / union if area else np.nan
    return result


def shared_pixels(
    first_window: Window, first: BoolArray, second_window: Window, second: BoolArray
) -> int:
    """Return the pixels that two masks share, each given in its own window of one picture."""
    cuts = []
    for one, other in zip(first_window, second_window, strict=True):
        start, stop = max(one.start, other.start), min(one.stop, other.stop)
        if start >= stop:
            return 0
        cuts.append(
            (
                slice(start - one.start, stop - one.start),
                slice(start - other.start, stop - other.start),
            )
        )
    (first_rows, second_rows), (first_columns, second_columns) = cuts
    both = first[first_rows, first_columns] & second[second_rows, second_columns]
    return int(np.count_nonzero(both))
