"""Scores of masks, from one mask at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.mask_scorer import MaskScorer, mask_statistics


def statistics_of(logits: list[float]) -> list[float]:
    """The five numbers of one mask, from their words."""
    probability = [1 / (1 + math.exp(-logit)) for logit in logits]
    inside = [logit > 0 for logit in logits]
    area, total = sum(inside), sum(probability)
    within = sum(p for p, is_inside in zip(probability, inside, strict=True) if is_inside)
    surely, perhaps = sum(x > 1 for x in logits), sum(x > -1 for x in logits)
    return [
        within / (area + total - within + 1e-3),
        within / (area + 1e-3),
        surely / (perhaps + 1e-3),
        math.log(1 + area) / 5 - 1,
        within / (total + 1e-3),
    ]


MASKS = [
    [4.0, 0.5, -0.5, -3.0, 2.0, -9.0],
    [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0],  # Nothing is inside.
    [9.0, 9.0, 9.0, 9.0, 9.0, 9.0],  # Everything is.
    [0.0, 1.0, -1.0, 0.0, 1.0, -1.0],  # On the thresholds, which are not inside.
]


@pytest.mark.parametrize("mask", MASKS)
def test_statistics_of_one_mask(mask: list[float]) -> None:
    logits = torch.tensor(mask)[None, None]
    found = mask_statistics(logits, logits.sigmoid())
    assert found.shape == (1, 1, 5)
    torch.testing.assert_close(found[0, 0], torch.tensor(statistics_of(mask)))
    assert bool(found.isfinite().all())


@pytest.fixture(scope="module")
def scorer() -> MaskScorer:
    torch.manual_seed(0)
    return MaskScorer(token_dim=6, feature_dim=4, hidden_dim=10)


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two masks for each of three prompts, features, tokens."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(3, 2, 5, 7, generator=generator)
    logits[1, 1] = -20
    return (
        logits,
        torch.randn(3, 4, 5, 7, generator=generator),
        torch.randn(3, 2, 6, generator=generator),
    )


def test_a_score_sees_the_token_the_inside_the_rim_and_the_numbers(
    scorer: MaskScorer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, features, tokens = inputs
    scores = scorer(logits, features, tokens)
    assert scores.shape == (3, 2)
    for prompt in range(3):
        for mask in range(2):
            interior, rim = torch.zeros(4), torch.zeros(4)
            area = doubt = 1.0
            for row in range(5):
                for column in range(7):
                    pixel = features[prompt, :, row, column]
                    p = float(logits[prompt, mask, row, column].sigmoid())
                    interior, area = interior + p * pixel, area + p
                    rim, doubt = rim + p * (1 - p) * pixel, doubt + p * (1 - p)
            numbers = torch.tensor(statistics_of(logits[prompt, mask].flatten().tolist()))
            seen = torch.cat([tokens[prompt, mask], interior / area, rim / doubt, numbers])
            expected = scorer.head(seen)[0]
            torch.testing.assert_close(scores[prompt, mask], expected, rtol=1e-4, atol=1e-5)


def test_a_score_teaches_only_the_scorer(
    scorer: MaskScorer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    leaves = [value.clone().requires_grad_() for value in inputs]
    scorer(*leaves).sum().backward()
    assert [leaf.grad for leaf in leaves] == [None, None, None]
    assert all(parameter.grad is not None for parameter in scorer.parameters())


def test_features_in_half_precision(
    scorer: MaskScorer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    logits, features, tokens = inputs
    exact = scorer(logits, features, tokens)
    half = scorer(logits.bfloat16(), features.bfloat16(), tokens.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.02)
