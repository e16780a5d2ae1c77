from __future__ import annotations

import pytest
import torch

from sam_plugins.model.networks.instance_decoder import InstanceMaps
from sam_plugins.model.training.losses import (
    LossWeights,
    instance_loss,
    low_res_iou,
    mask_losses,
    prompt_loss,
    reduce_masks,
)

WEIGHTS = LossWeights()


def square(size: int = 32, side: int = 8) -> torch.Tensor:
    target = torch.zeros(1, size, size)
    target[0, 4 : 4 + side, 4 : 4 + side] = 1
    return target


def as_logits(target: torch.Tensor, confidence: float = 8.0) -> torch.Tensor:
    return ((target * 2 - 1) * confidence)[:, None]


def test_reduced_masks_hold_the_share_of_each_cell_that_is_covered() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :4, :2] = 1
    assert reduce_masks(masks).tolist() == [[[0.5, 0.0], [0.0, 0.0]]]


def test_the_right_mask_costs_almost_nothing_and_an_empty_one_much() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    right = mask_losses(as_logits(target), target, known, WEIGHTS)
    empty = mask_losses(torch.full((1, 1, 32, 32), -8.0), target, known, WEIGHTS)
    assert right.item() < 0.01
    assert empty.item() > 5


def test_an_empty_mask_costs_the_same_for_small_and_large_objects() -> None:
    known, empty = torch.ones(1, 64, 64), torch.full((1, 1, 64, 64), -6.0)
    small = mask_losses(empty, square(64, 8), known, WEIGHTS)
    large = mask_losses(empty, square(64, 40), known, WEIGHTS)
    assert small.item() == pytest.approx(large.item(), rel=0.05)


def test_what_is_not_known_does_not_count() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = as_logits(target)
    logits[..., 20:] = 8.0
    wrong = mask_losses(logits, target, known, WEIGHTS)
    known[..., 20:] = 0
    unseen = mask_losses(logits, target, known, WEIGHTS)
    assert unseen.item() < 0.01 < wrong.item()
    assert low_res_iou(logits, target, known).item() == 1


def test_an_ambiguous_prompt_mostly_corrects_the_best_mask() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = torch.zeros(1, 4, 32, 32)
    logits[:, 2] = 0.1 * as_logits(target)[:, 0]
    logits.requires_grad_()
    answer = prompt_loss(
        logits, torch.zeros(1, 4), target, known, is_ambiguous=True, weights=WEIGHTS
    )
    answer.total.backward()
    assert logits.grad is not None
    by_mask = logits.grad.abs().sum(dim=(0, 2, 3))
    assert by_mask.argmax() == 2
    assert by_mask[1] > 0  # no token is left alone


def test_a_clear_prompt_mostly_corrects_the_single_mask() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = torch.zeros(1, 4, 32, 32, requires_grad=True)
    answer = prompt_loss(
        logits, torch.zeros(1, 4), target, known, is_ambiguous=False, weights=WEIGHTS
    )
    answer.total.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=(0, 2, 3)).argmax() == 0


def test_predicted_iou_is_pulled_to_the_iou_of_every_mask() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = as_logits(target).repeat(1, 4, 1, 1)
    logits[:, 3] = -8
    predicted = torch.full((1, 4), 0.5, requires_grad=True)
    answer = prompt_loss(logits, predicted, target, known, is_ambiguous=True, weights=WEIGHTS)
    answer.total.backward()
    assert predicted.grad is not None
    assert (predicted.grad[0, :3] < 0).all()
    assert predicted.grad[0, 3] > 0
    assert answer.iou_error.item() == pytest.approx(0.5)


def test_dice_of_the_foreground_counts_pictures_alike() -> None:
    targets = torch.zeros(2, 4, 16, 16)
    targets[:, 3] = 1
    targets[0, 0, 4:8, 4:8] = 1
    targets[1, 0, :, 2:] = 1
    answer = (targets[:, :3] * 2 - 1) * 9
    answer[0, 0, 3:9, 3:9] = 9  # 20 cells too many around 16, but of 512 in all

    def losses(share: float) -> list[float]:
        return [
            instance_loss(
                InstanceMaps(*[answer[one, i : i + 1] for i in range(3)]),
                targets[one],
                foreground_dice=share,
            ).item()
            for one in (slice(0, 1), slice(1, 2), slice(0, 2))
        ]

    small, large, both = (with_dice - without for with_dice, without in zip(
        losses(1.0), losses(0.0), strict=True
    ))  # fmt: skip
    assert small == pytest.approx(1 - 33 / 53, abs=0.01)
    assert large < 0.01
    assert both == pytest.approx((small + large) / 2, abs=1e-4)


def test_instance_loss_is_least_for_the_truth_and_ignores_what_is_unknown() -> None:
    targets = torch.zeros(1, 4, 8, 8)
    targets[:, :3, 2:5, 2:5] = 1
    targets[:, 3] = 1
    truth = InstanceMaps(*[(targets[:, i : i + 1] * 2 - 1) * 9 for i in range(3)])
    wrong = InstanceMaps(*[-one for one in truth])
    assert instance_loss(truth, targets) < 0.01 < 1 < instance_loss(wrong, targets)
    targets[:, 3] = 0
    assert instance_loss(wrong, targets) == 0
