"""The numbers of a training run: plain values, kept with its state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.prompt_simulation import PromptOptions


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    steps : int
        Length of the whole run, over any number of slices.
    learning_rate, weight_decay : float
        Of AdamW; norms, biases and embeddings do not decay.
    betas : (float, float)
        Of AdamW.
    optimizer : {"adamw", "muon"}
        What moves matrices and kernels: AdamW, or :class:`~.optimizers.Muon`.
    muon_scale : float
        Factor on the learning rate of what Muon moves.
    layer_decay : float
        Factor on the learning rate from each block of a transformer encoder to the one before it;
        1 moves all alike.
    drop_path : float, optional
        Rate at which the last block's branches are dropped, rising to it from 0 with depth; None
        leaves the rates of the network's own config.
    dense_steps : int
        First steps in which the image encoder learns from the instance decoder alone. What a fresh
        mask decoder asks of it is noise, from which it learns to ignore the picture.
    warmup_steps : int
        Steps in which the learning rate rises from zero.
    final_share : float
        Share of the learning rate that is left at the end of the cosine.
    schedule : {"cosine", "steps"}
        After the warm-up: half a cosine, or divided by ten after each share of ``drops_at``.
    drops_at : tuple of float
        Shares of the run.
    ema_decay : float
        Of the average of the weights, which is what a run yields.
    max_gradient_norm : float
    precision : {"float32", "bfloat16"}
        Of the forward pass; weights and losses are float32.
    seed : int
        Of weights, data and prompts.
    """

    steps: int = 12_000
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_scale: float = 1.0
    layer_decay: float = 1.0
    drop_path: float | None = None
    dense_steps: int = 300
    warmup_steps: int = 200
    final_share: float = 0.02
    schedule: Literal["cosine", "steps"] = "cosine"
    drops_at: tuple[float, ...] = ()
    ema_decay: float = 0.998
    max_gradient_norm: float = 3.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0
    losses: LossWeights = field(default_factory=LossWeights)
    prompts: PromptOptions = field(default_factory=PromptOptions)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1 or self.warmup_steps < 0:
            raise ValueError(
                "steps must be 1 or more and warmup_steps 0 or more, "
                f"got {self.steps} and {self.warmup_steps}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.optimizer not in {"adamw", "muon"}:
            raise ValueError(f"optimizer must be adamw or muon, got {self.optimizer!r}")
        if self.precision not in {"float32", "bfloat16"}:
            raise ValueError(f"precision must be float32 or bfloat16, got {self.precision!r}")
        if self.schedule not in {"cosine", "steps"}:
            raise ValueError(f"schedule must be cosine or steps, got {self.schedule!r}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must lie in (0, 1], got {self.layer_decay}")
        if self.drop_path is not None and not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), got {self.drop_path}")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then the schedule.

        Examples
        --------
        >>> TrainingConfig(learning_rate=1e-3, warmup_steps=10).learning_rate_at(4)
        0.0005
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "steps":
            drops = sum(step >= share * self.steps for share in self.drops_at)
            return self.learning_rate * 0.1**drops
        span = max(1, self.steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        cosine = (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * (self.final_share + (1 - self.final_share) * cosine)

    def ema_decay_at(self, step: int) -> float:
        """Return the decay of a step: a short memory at first, when weights move fast."""
        return min(self.ema_decay, (1 + step) / (10 + step))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
