"""What moves the weights: AdamW, or Muon for matrices and kernels beside AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.encoder_layers import learning_rate_scales

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_TINY = 1e-9


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Make the optimiser of a run, with decay for matrices and kernels only.

    Each group has its factor on the learning rate as ``scale``.
    """
    is_muon = config.optimizer == "muon"
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    scales = learning_rate_scales(model, config.layer_decay)
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and min(parameter.shape[:2]) > 1
        is_table = "embed" in name or name.endswith(("token.weight", "tokens.weight"))
        groups.setdefault((scales[name], is_matrix and not is_table), []).append(parameter)
    chosen = Muon if is_muon else torch.optim.AdamW
    return chosen(
        [
            {
                "params": own,
                "scale": scale * (config.muon_scale if is_muon and decays else 1.0),
                "weight_decay": config.weight_decay if decays else 0.0,
                "turns": is_muon and decays,
            }
            for (scale, decays), own in groups.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )


class Muon(torch.optim.AdamW):
    """Muon for groups that say ``turns``, AdamW for the others.

    The momentum of a matrix is replaced by the nearest matrix whose singular values are all about
    1, so that directions that gradients seldom take count as much as those that they often take
    (Jordan et al. 2024). Kernels count as matrices with a row for each output. Steps have 0.2 as
    the root of their mean square, about AdamW's, so that one learning rate suits both (Liu et al.
    2025). PyTorch's own takes no kernels.

    Parameters
    ----------
    groups : list of dict
        As :class:`torch.optim.AdamW` takes them, each with ``turns``.
    lr : float
    betas : (float, float)
        Of AdamW.
    momentum : float
        Of Muon, as Nesterov has it.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas)
        self.momentum = momentum

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all weights that have a gradient."""
        groups = self.param_groups
        turned = [group for group in groups if group["turns"]]
        self.param_groups = [group for group in groups if not group["turns"]]
        try:
            loss: float | None = super().step(closure)
        finally:
            self.param_groups = groups
        for group in turned:
            self._turn(group)
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        """Move the weights of a group, those of one shape together."""
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(weight.grad, 1 - self.momentum)
            ahead = weight.grad.lerp(state["momentum"], self.momentum).flatten(1)
            alike.setdefault(tuple(ahead.shape), []).append((weight, ahead))
        for shape, pairs in alike.items():
            steps = orthogonalized(torch.stack([ahead for _, ahead in pairs]))
            length = 0.2 * max(shape) ** 0.5
            for (weight, _), step in zip(pairs, steps, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(step.reshape(weight.shape), alpha=-group["lr"] * length)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, and singular values of 0.7 to 1.2.

    Five Newton-Schulz iterations of the quintic of Jordan et al. (2024), in bfloat16.

    Parameters
    ----------
    matrices : Tensor of shape (N, R, C)

    Returns
    -------
    Tensor of shape (N, R, C), float32
        Singular values that are next to nothing beside the largest stay below 0.7.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if is_tall else matrices
    wide = (wide / (torch.linalg.matrix_norm(wide, keepdim=True) + _TINY)).bfloat16()
    first, third, fifth = _QUINTIC
    for _ in range(_ITERATIONS):
        square = wide @ wide.mT
        wide = first * wide + (third * square + fifth * square @ square) @ wide
    turned: Tensor = wide.mT if is_tall else wide
    return turned.float()
