"""What moves the weights: AdamW, and Muon for matrices and kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.optimizers import Muon, make_optimizer, orthogonalized


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Linear(8, 40))


@pytest.mark.parametrize("shape", [(24, 24), (8, 90), (90, 8)])
def test_a_turned_matrix_keeps_its_vectors_and_loses_its_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    matrices = left * (values / values[:, :1]).clamp(min=0.05)[:, None] * 7 @ right
    turned = orthogonalized(matrices)
    assert turned.dtype == torch.float32
    found = left.mT @ turned @ right.mT
    known = torch.diagonal(found, dim1=1, dim2=2)
    assert bool(((known > 0.6) & (known < 1.25)).all())
    assert float((found - torch.diag_embed(known)).abs().max()) < 0.05


def test_a_gradient_of_nothing_is_no_step() -> None:
    assert not orthogonalized(torch.zeros(1, 4, 6)).any()


def test_steps_are_as_long_as_the_learning_rate_says(network: nn.Module) -> None:
    config = TrainingConfig(optimizer="muon", muon_scale=2.0, weight_decay=0.0)
    optimizer = make_optimizer(network, config)
    assert isinstance(optimizer, Muon)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 * group["scale"]
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    for one in network.parameters():
        one.grad = torch.randn_like(one)
    optimizer.step()
    moved = {name: one.detach() - before[name] for name, one in network.named_parameters()}
    # Kernels and matrices: 0.2 of the rate, twice.
    for name in ("0.weight", "2.weight"):
        assert float(moved[name].square().mean().sqrt()) == pytest.approx(0.004, rel=0.25)
    # AdamW's first step is the rate itself: kernels of single channels, and biases.
    for name in ("1.weight", "0.bias", "2.bias"):
        assert moved[name].abs().flatten().tolist() == pytest.approx(
            [0.01] * moved[name].numel(), rel=1e-3
        )


def test_every_direction_counts(network: nn.Module) -> None:
    """What gradients seldom show moves a weight as far as what they often show."""
    optimizer = make_optimizer(network, TrainingConfig(optimizer="muon", weight_decay=0.0))
    weight = network[2].weight  # type: ignore[index]
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    weight.grad[0, 0], weight.grad[1, 1] = 1.0, 0.02
    optimizer.step()
    moved = (before - weight).detach()
    assert 0.5 < float(moved[1, 1] / moved[0, 0]) < 2


def test_weights_without_a_gradient_stay(network: nn.Module) -> None:
    optimizer = make_optimizer(network, TrainingConfig(optimizer="muon"))
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    network[0].weight.grad = torch.ones_like(network[0].weight)  # type: ignore[index]
    optimizer.step()
    changed = [n for n, one in network.named_parameters() if not torch.equal(one, before[n])]
    assert changed == ["0.weight"]


def test_adamw_is_pytorchs_own(network: nn.Module) -> None:
    assert type(make_optimizer(network, TrainingConfig())) is torch.optim.AdamW


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ValueError, match="adamw or muon"):
        TrainingConfig(optimizer="sgd")  # type: ignore[arg-type]
