from __future__ import annotations

import math

import numpy as np
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


def test_a_point_in_a_part_corrects_two_masks_towards_part_and_whole() -> None:
    part, whole, known = square(side=6), square(side=16), torch.ones(1, 32, 32)
    weights = LossWeights(outer=1.0, others=0.0, single=0.0, choice=0.0)
    logits = torch.zeros(1, 4, 32, 32)
    logits[:, 1] = 0.2 * as_logits(whole)[:, 0]
    logits[:, 3] = 0.1 * as_logits(part)[:, 0]
    logits.requires_grad_()
    predicted = torch.full((1, 4), 0.5, requires_grad=True)
    answer = prompt_loss(
        logits, predicted, part, known, is_ambiguous=True, weights=weights, outer=whole
    )
    answer.total.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=(0, 2, 3)).gt(0).tolist() == [False, True, False, True]
    beside = logits.grad[0, :, 15, 15]  # Of the whole alone.
    assert beside[1] < 0 < beside[3]
    # The mask of the whole is right, too.
    assert predicted.grad is not None
    assert predicted.grad[0, 1] < 0
    assert answer.best_iou.item() == 1


def test_a_mask_in_between_counts_for_one_of_part_and_whole() -> None:
    part, whole, known = square(side=10), square(side=14), torch.ones(1, 32, 32)
    logits = torch.zeros(1, 4, 32, 32)
    logits[:, 2] = as_logits(square(side=12), 1.0)[:, 0]  # The best for either.
    logits.requires_grad_()
    weights = LossWeights(outer=1.0, others=0.0, single=0.0, choice=0.0)
    answer = prompt_loss(
        logits, torch.zeros(1, 4), part, known, is_ambiguous=True, weights=weights, outer=whole
    )
    answer.total.backward()
    assert logits.grad is not None
    assert int(logits.grad.abs().sum(dim=(0, 2, 3)).gt(0).sum()) == 2


def test_what_lies_in_no_other_object_has_one_mask_corrected() -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    asked = (logits, torch.zeros(1, 4), target, known)
    alone = prompt_loss(*asked, is_ambiguous=True, weights=LossWeights(outer=1.0))
    nowhere = torch.zeros_like(target)
    told = prompt_loss(*asked, is_ambiguous=True, weights=LossWeights(outer=1.0), outer=nowhere)
    assert told.total == alone.total
    within = prompt_loss(
        *asked, is_ambiguous=True, weights=LossWeights(outer=1.0), outer=square(side=16)
    )
    assert within.total > alone.total


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


def test_the_focal_term_falls_with_its_power_and_background_is_shared_by_areas() -> None:
    """One cell inside and one outside answered with 3/4, by hand."""
    known = torch.ones(1, 2, 2)
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    sure = 40.0
    doubt = float(torch.logit(torch.tensor(0.75, dtype=torch.float64)))
    missed = torch.tensor([[[[doubt, sure], [-sure, -sure]]]])
    beyond = torch.tensor([[[[sure, sure], [doubt, -sure]]]])

    def focal(logits: torch.Tensor, **values: float) -> float:
        weights = LossWeights(focal=1.0, dice=0.0, **values)
        return mask_losses(logits, target, known, weights).item()

    area = 2 + 1  # One is added, so that empty objects divide by no zero.
    for power in (0.0, 1.0, 2.0, 3.0):
        inside = -math.log(0.75) * 0.25**power / area
        assert focal(missed, focal_power=power) == pytest.approx(inside, rel=1e-4)
        for areas in (1.5, 4.0):
            outside = -math.log(0.25) * 0.75**power / (areas * area)
            found = focal(beyond, focal_power=power, background_areas=areas)
            assert found == pytest.approx(outside, rel=1e-4)
            missing = focal(missed, focal_power=power, background_areas=areas)
            assert missing == pytest.approx(inside, rel=1e-4)


@pytest.mark.parametrize("is_ambiguous", [True, False])
def test_the_choice_among_masks_is_learned_as_much_as_asked_for(*, is_ambiguous: bool) -> None:
    target, known = square(), torch.ones(1, 32, 32)
    logits = as_logits(target).repeat(1, 4, 1, 1)
    logits[:, 0] = logits[:, 3] = -8  # IoU of the three: 1, 1 and 0
    predicted = torch.tensor([[0.9, 0.1, 0.3, 0.2]], requires_grad=True)

    def loss(choice: float) -> torch.Tensor:
        weights = LossWeights(iou=0.0, choice=choice)
        return prompt_loss(
            logits, predicted, target, known, is_ambiguous=is_ambiguous, weights=weights
        ).total

    wanted = np.exp(np.array([1.0, 1.0, 0.0]) / 0.1)
    found = np.exp(np.array([0.1, 0.3, 0.2]) / 0.1)
    entropy = -(wanted / wanted.sum() * np.log(found / found.sum())).sum()
    for choice in (0.3, 1.0):
        assert (loss(choice) - loss(0.0)).item() == pytest.approx(choice * entropy, rel=1e-4)
    loss(0.3).backward()
    assert predicted.grad is not None
    single, good, favourite, bad = predicted.grad[0].tolist()
    assert single == 0  # It is not among those that are chosen from.
    assert good < 0 < min(favourite, bad)
