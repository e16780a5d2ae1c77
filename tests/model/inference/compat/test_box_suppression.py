"""Suppression keeps the boxes that torchvision's keeps, in its order."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from sam_plugins.model.inference.compat.box_suppression import suppress_boxes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_iou", [0.3, 0.7, 1.0])
def test_random_boxes(official: ModuleType, seed: int, max_iou: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.integers(0, 30, (60, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    scores = random.integers(0, 9, 60).astype(np.float32)  # many equal ones
    theirs = official.automatic_mask_generator.batched_nms(
        torch.from_numpy(boxes).float(), torch.from_numpy(scores), torch.zeros(60), max_iou
    )
    assert suppress_boxes(boxes, scores, max_iou).tolist() == theirs.tolist()


def test_boxes_without_area_stay() -> None:
    boxes = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 9, 9]])
    assert suppress_boxes(boxes, np.array([1.0, 2.0, 3.0]), 0.1).tolist() == [2, 1, 0]


def test_no_boxes() -> None:
    assert suppress_boxes(np.zeros((0, 4), int), np.zeros(0), 0.7).tolist() == []
