from __future__ import annotations

import numpy as np
import torch

from sam_plugins.model.training.prompt_simulation import (
    PromptOptions,
    boxes_xyxy,
    correction_points,
    first_points_xy,
)


def some_masks() -> np.ndarray:
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[0, 10:30, 20:50] = 1
    masks[1, 63, 63] = 1
    masks[2, 5:60, 5] = masks[2, 59, 5:60] = 1
    return masks


def test_first_points_lie_inside() -> None:
    masks = some_masks()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for mask, (x, y) in zip(masks, first_points_xy(masks, rng, seed % 2), strict=True):
            assert mask[int(y), int(x)] == 1


def test_central_points_lie_deeper_than_others() -> None:
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 8:56, 8:56] = 1

    def mean_distance(share: float) -> float:
        rng = np.random.default_rng(0)
        drawn = [first_points_xy(mask, rng, share)[0] for _ in range(200)]
        return float(np.abs(np.array(drawn) - 31.5).max(axis=1).mean())

    assert mean_distance(1.0) < 0.75 * mean_distance(0.0)


def test_exact_boxes_are_tight_and_noised_ones_stay_in_the_picture() -> None:
    masks = some_masks()
    exact = boxes_xyxy(masks, np.random.default_rng(0), PromptOptions(exact_box_share=1.0))
    assert exact[0].tolist() == [20, 10, 49, 29]
    assert exact[1].tolist() == [62, 62, 63, 63] or exact[1].tolist() == [63, 63, 63, 63]
    moved = 0
    for seed in range(50):
        noised = boxes_xyxy(masks, np.random.default_rng(seed), PromptOptions(exact_box_share=0))
        assert (noised >= 0).all()
        assert (noised <= 63).all()
        assert (noised[:, 2:] >= noised[:, :2]).all()
        moved += int(not np.array_equal(noised[0], exact[0]))
    assert moved == 50


def test_corrections_point_at_what_is_wrong() -> None:
    target = torch.zeros(2, 16, 16)
    target[:, 4:12, 4:12] = 1
    logits = torch.full((2, 16, 16), -5.0)
    logits[0, 4:12, 4:8] = 5  # half is missing
    logits[1, 4:12, 4:16] = 5  # too much on the right
    known = torch.ones(2, 16, 16)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        points, labels = correction_points(logits, target, known, generator)
        assert labels.tolist() == [1, 0]
        assert 8 * 4 <= points[0, 0] < 12 * 4
        assert 12 * 4 <= points[1, 0] < 16 * 4


def test_a_perfect_mask_gets_a_point_inside() -> None:
    target = torch.zeros(1, 16, 16)
    target[0, 4:6, 4:6] = 1
    points, labels = correction_points(
        (target * 2 - 1) * 5, target, torch.ones(1, 16, 16), torch.Generator().manual_seed(0)
    )
    assert labels.tolist() == [1]
    assert ((points >= 16) & (points < 24)).all()
