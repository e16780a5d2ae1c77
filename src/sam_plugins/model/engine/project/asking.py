"""Prompts that were written down are answered as those of a window: one after the other.

In a window every click is answered at once, and the next one corrects that answer: it comes with
its logits and with all that was said before, and the answer is held against them
(:mod:`~sam_plugins.model.inference.corrections`). All clicks at once would ask the decoder for
something else than people see there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.engine.label_store import PromptEvent, PromptKind
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.pooling import logits_of_mask
from sam_plugins.model.inference.predict import predict_masks
from sam_plugins.model.inference.prompts import POSITIVE
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts

_POINTS = (PromptKind.POINT, PromptKind.SEED)


def answer_in_turn(
    model: Model,
    embedding: ImageEmbedding,
    prompts: Prompts,
    *,
    mask: NDArray[np.bool_] | None = None,
    said: Sequence[PromptEvent] = (),
) -> MaskPrediction:
    """Answer the prompts of one object in their order: the box, then point by point.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
    prompts : Prompts
        Of one object, points or a box or both.
    mask : ndarray of shape (H, W), bool, optional
        What the points correct. A box asks anew, whatever there was.
    said : sequence of PromptEvent
        What ``mask`` was asked for with. Points count that it follows.

    Returns
    -------
    MaskPrediction
        Of one object, one mask: the answer to the last prompt.

    Raises
    ------
    ValueError
        If the prompts do not fit the picture.
    """
    points, labels, boxes = prompts.points_xy, prompts.point_labels, prompts.boxes_xyxy
    if points is None or labels is None:
        return predict_masks(model, embedding, prompts).best()
    prompts.check_inside(embedding.original_size_hw)
    logits, first = None, 1
    if boxes is not None:
        first = 0
    elif mask is not None and mask.any():
        logits = logits_of_mask(mask, embedding)[None, None]
        old_points, old_labels = _followed(said, mask)
        first += len(old_labels)
        points = np.concatenate([old_points[None], points], axis=1)
        labels = np.concatenate([old_labels[None], labels], axis=1)
    elif (labels == POSITIVE).any():
        first += int(np.argmax(labels == POSITIVE))  # before it, nobody knows what is meant
    else:
        first = labels.shape[1]
    for count in range(first, labels.shape[1] + 1):
        some = slice(0, count) if count else None
        now = Prompts(
            points_xy=None if some is None else points[:, some],
            point_labels=None if some is None else labels[:, some],
            boxes_xyxy=boxes,
            mask_logits=logits,
        )
        answer = predict_masks(model, embedding, now).best()
        logits = answer.low_res_logits
    return answer


def _followed(
    said: Sequence[PromptEvent], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the points (K, 2) and labels (K,) with which a mask agrees."""
    height, width = mask.shape
    kept = []
    for event in said:
        if event.kind in _POINTS:
            x, y = event.values
            column, row = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
            if mask[row, column] == event.is_positive:
                kept.append((x, y, int(event.is_positive)))
    values = np.array(kept, np.float32).reshape(-1, 3)
    return values[:, :2], values[:, 2].astype(np.int64)
