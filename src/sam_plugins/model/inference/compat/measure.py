"""What low-resolution logits are at the picture's size: how stable, and where; not yet drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.inference.suppression import mask_boxes

IntArray = npt.NDArray[np.int64]

_CHUNK_ON_GPU = 16


class Measured(NamedTuple):
    """Of n masks: stability (n,), float32, NaN for empty ones, and boxes (n, 4).

    Boxes hold the first and last column and row, xyxy; zeros for empty masks and unstable ones.
    """

    stability: npt.NDArray[np.float32]
    boxes_xyxy: IntArray


def measure_masks(
    logits: Tensor,
    sizes: SizeChain,
    *,
    threshold: float,
    offset: float,
    min_stability: float,
) -> Measured:
    """Measure masks at the picture's size.

    Parameters
    ----------
    logits : Tensor of shape (n, h, w)
        Of low resolution, on any device.
    sizes : SizeChain
    threshold : float
        Logits above are inside.
    offset : float
        The stability of a mask is the IoU of the two that lie so far above and below
        (Kirillov et al. 2023, appendix B).
    min_stability : float
        The boxes of less stable masks are not looked for.
    """
    measure = _measure_windows if logits.device.type == "cpu" else _measure_whole
    return measure(logits.float(), sizes, threshold, offset, min_stability)


def calculate_stability_score(
    masks: Tensor, mask_threshold: float, threshold_offset: float
) -> Tensor:
    """Return how little masks change with the threshold (Kirillov et al. 2023, appendix B).

    Parameters
    ----------
    masks : Tensor of shape (..., H, W)
        Logits, on any device.
    mask_threshold : float
        Logits above are inside.
    threshold_offset : float
        The score is the IoU of the two masks whose thresholds lie so far above and below.

    Returns
    -------
    Tensor of shape (...), float32
        0 to 1; NaN where nothing lies above the lower threshold.
    """
    inner, outer = (
        torch.count_nonzero(masks > mask_threshold + side * threshold_offset, dim=(-2, -1))
        for side in (1, -1)
    )
    return inner.float() / outer.float()


def boxes_of(inside: Tensor) -> IntArray:
    """Return boxes (n, 4) of masks (n, h, w) on any device, as :class:`Measured` has them."""
    by_column = mask_boxes(inside.any(-2)[:, None].cpu().numpy())
    by_row = mask_boxes(inside.any(-1)[..., None].cpu().numpy())
    boxes = np.stack([by_column[:, 0], by_row[:, 1], by_column[:, 2], by_row[:, 3]], axis=1)
    boxes[boxes[:, 2] < 0] = 0
    return boxes


def _measure_windows(
    logits: Tensor, sizes: SizeChain, threshold: float, offset: float, min_stability: float
) -> Measured:
    """Enlarge one mask at a time, and only the window that its lower threshold reaches."""
    stability = np.full(len(logits), np.nan, np.float32)
    boxes = np.zeros((len(logits), 4), np.int64)
    for index, one in enumerate(logits.numpy()):
        cut = sizes.cut(one, threshold - abs(offset))
        large = sizes.enlarge_cut(cut)
        inner, outer = (np.count_nonzero(large > threshold + side * offset) for side in (1, -1))
        with np.errstate(invalid="ignore"):  # NaN for nothing by nothing
            stability[index] = np.divide(inner, outer, dtype=np.float32)
        if large.size and not stability[index] < min_stability:
            top, left = cut.window[0].start, cut.window[1].start
            box = mask_boxes((large > threshold)[None])[0]
            boxes[index] = box + np.array([left, top, left, top]) if box[2] >= 0 else 0
    return Measured(stability, boxes)


def _measure_whole(
    logits: Tensor, sizes: SizeChain, threshold: float, offset: float, min_stability: float
) -> Measured:
    """Enlarge several masks at a time, all of them wholly: what a GPU is good at."""
    del min_stability  # boxes cost nothing here
    parts = []
    for start in range(0, max(1, len(logits)), _CHUNK_ON_GPU):
        large = sizes.enlarge(logits[start : start + _CHUNK_ON_GPU, None])[:, 0]
        stability = calculate_stability_score(large, threshold, offset).cpu().numpy()
        parts.append((stability, boxes_of(large > threshold)))
    all_stability, all_boxes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Measured(all_stability, all_boxes)
