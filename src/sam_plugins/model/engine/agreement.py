"""How far two models give the same masks for the same clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts

_CELL = 4  # input pixels along a cell of the low-resolution masks


@dataclass(frozen=True)
class Agreement:
    """Mean IoU over clicks.

    Attributes
    ----------
    confident : float
        Of the masks that either model trusts most, which is what a user gets.
    same : float
        Of the masks of the same output, whichever is trusted: each of the three.
    clicks : int
        How many were asked for.
    """

    confident: float
    same: float
    clicks: int


def click_agreement(
    one: tuple[Model, ImageEmbedding],
    other: tuple[Model, ImageEmbedding],
    points_xy: NDArray[np.float32],
) -> Agreement:
    """Ask two models for the masks of the same clicks on a picture.

    Parameters
    ----------
    one, other : (Model, ImageEmbedding)
        With embeddings of the same picture, and equal preprocessing.
    points_xy : ndarray of shape (N, 2)
        One click each, pixels of the picture.

    Returns
    -------
    Agreement
        Masks are compared on the low-resolution grid, without padding. Two empty masks agree.
    """
    prompts = Prompts(points_xy=np.asarray(points_xy, np.float32)[:, None])
    first, second = (
        predict_masks(model, embedding, prompts, multimask=True)
        for model, embedding in (one, other)
    )
    masks, other_masks = _masks(first), _masks(second)
    trusted = _ious(
        _chosen(masks, first.iou_predictions), _chosen(other_masks, second.iou_predictions)
    )
    return Agreement(float(trusted.mean()), float(_ious(masks, other_masks).mean()), len(prompts))


def clicks_of(size_hw: tuple[int, int], count: int, seed: int) -> NDArray[np.float32]:
    """Return places of clicks, (count, 2), anywhere in a picture; the same for the same seed."""
    rng = np.random.default_rng([seed, *size_hw])
    places = rng.uniform(0, 1, (count, 2)) * (size_hw[1], size_hw[0]) - 0.5
    return np.clip(places, 0, (size_hw[1] - 1, size_hw[0] - 1)).astype(np.float32)


def _masks(answer: MaskPrediction) -> NDArray[np.bool_]:
    """Return the low-resolution masks (N, C, h, w) of the picture without its padding."""
    height, width = (-(-side // _CELL) for side in answer.input_size_hw)
    masks: NDArray[np.bool_] = answer.low_res_logits[..., :height, :width] > answer.mask_threshold
    return masks


def _chosen(masks: NDArray[np.bool_], iou_predictions: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the most trusted mask of each click."""
    chosen: NDArray[np.bool_] = masks[np.arange(len(masks)), iou_predictions.argmax(axis=1)]
    return chosen


def _ious(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of masks (..., h, w)."""
    overlap = (one & other).sum(axis=(-2, -1))
    union = (one | other).sum(axis=(-2, -1))
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)
