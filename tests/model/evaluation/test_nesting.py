"""A whole and its part, asked for with one point of a model that knows some of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from sam_plugins.model.evaluation.nesting import evaluate_nesting, nested_pairs
from sam_plugins.model.evaluation.prompts import true_objects
from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.io.labelled import LabelledImage

SIZE_HW = (40, 60)
FACADE = np.zeros(SIZE_HW, bool)
FACADE[4:36, 4:36] = True
WINDOW = np.zeros(SIZE_HW, bool)
WINDOW[10:20, 10:20] = True
TREE = np.zeros(SIZE_HW, bool)  # in front of it, and beside it
TREE[20:36, 30:50] = True


def picture() -> LabelledImage:
    labels = np.zeros(SIZE_HW, np.int32)
    labels[FACADE], labels[WINDOW], labels[TREE] = 1, 2, 3
    return LabelledImage(
        "house", np.zeros((*SIZE_HW, 3), np.uint8), labels, whole_masks={1: FACADE}, set_name="a"
    )


class Embedding(NamedTuple):
    """Of the picture's own size."""

    original_size_hw: tuple[int, int] = SIZE_HW
    input_size_hw: tuple[int, int] = SIZE_HW
    padded_size_hw: tuple[int, int] = SIZE_HW


class Knowing:
    """Answers every point with the same masks."""

    def __init__(self, *masks: np.ndarray) -> None:
        self.masks = masks
        self.points: list[list[float]] = []

    def encode(self, image: Any) -> Embedding:
        return Embedding()

    def predict_points(self, embedding: Embedding, points_xy: Any) -> LowResMasks:
        self.points += points_xy.tolist()
        logits = torch.from_numpy(np.where(np.stack(self.masks), 1.0, -1.0).astype(np.float32))
        return LowResMasks(
            logits[None].expand(len(points_xy), -1, -1, -1),
            torch.zeros(len(points_xy), len(self.masks)),
        )

    def predict_boxes(self, embedding: Embedding, boxes_xyxy: Any) -> LowResMasks:
        raise NotImplementedError


def test_parts_lie_within_their_wholes() -> None:
    image = picture()
    objects = list(true_objects(image.labels, image.whole_masks))
    assert [(whole.object_id, part.object_id) for whole, part in nested_pairs(objects)] == [(1, 2)]
    # Without its whole mask, the facade has a hole where the window is.
    assert list(nested_pairs(list(true_objects(image.labels)))) == []


def test_both_need_a_mask_each() -> None:
    nothing = np.zeros(SIZE_HW, bool)
    model = Knowing(FACADE, WINDOW, nothing)
    (score,) = evaluate_nesting(model, picture())
    assert (score.whole_id, score.part_id, score.set_name) == (1, 2, "a")
    assert WINDOW[score.point_y, score.point_x]
    assert model.points == [[score.point_x, score.point_y]]
    assert score.whole_iou == score.part_iou == score.lesser_iou == 1
    assert score.has_both

    (score,) = evaluate_nesting(Knowing(FACADE, FACADE, nothing), picture())
    assert (score.whole_iou, score.has_both) == (1, False)
    # A mask in between, more than half of either, is not both.
    between = WINDOW.copy()
    between[8:20, 8:23] = True
    half = np.zeros(SIZE_HW, bool)
    half[8:22, 8:23] = True
    image = replace(picture(), whole_masks={1: half})
    (score,) = evaluate_nesting(Knowing(between, nothing, nothing), image)
    assert min(score.whole_iou, score.part_iou) > 0.5
    assert not score.has_both


def test_pairs_are_drawn_and_pictures_without_any_are_not_encoded() -> None:
    image = picture()
    plain = LabelledImage("plain", image.image, (image.labels == 3).astype(np.int32))
    assert evaluate_nesting(Knowing(), plain) == []
    image.labels[24:26, 10:12] = 4
    assert len(evaluate_nesting(Knowing(FACADE, WINDOW), image)) == 2
    assert len(evaluate_nesting(Knowing(FACADE, WINDOW), image, max_pairs=1)) == 1
    with pytest.raises(ValueError, match="must be 1 or more"):
        evaluate_nesting(Knowing(FACADE), image, max_pairs=0)
