"""How a model is fine-tuned: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from sam_plugins.model.training.choices import (
    CropSize,
    Precision,
    RecipeName,
    require_precision,
)
from sam_plugins.model.training.ranges import require_at_least, require_positive

if TYPE_CHECKING:
    import torch

Method = Literal["full", "decoder", "lora"]
METHODS: tuple[Method, ...] = ("full", "decoder", "lora")
_USUAL_ROUNDS = 6
_LARGEST_SEED = 2**63 - 1  # of PyTorch; NumPy knows none below 0


@dataclass(frozen=True)
class FineTuningOptions:
    """How a model is fine-tuned.

    Parameters
    ----------
    method : {"full", "decoder", "lora"}
        Whether the image encoder learns too, stays as it is, or gets low-rank adapters, which needs
        the library ``peft``. All of it is better for a very new kind of picture.
    steps : int
        Of the optimiser, in all.
    rounds : int, optional
        How often the weights are measured on the held-out pictures; by default six times, or after
        every step where there are fewer.
    learning_rate : float
        Of AdamW at its height.
    max_objects : int
        Prompted objects of a held-out picture.
    seed : int
        Of crops and prompts.
    recipe : {"auto", "paper", "shipped"}
        Losses, prompts, optimiser and schedule: those of SAM's paper or of the shipped model, see
        :mod:`~sam_plugins.model.training.presets`; by default the paper's for its own encoders.
    crop_sizes : tuple of CropSize, optional
        Sizes of crops; those that the image encoder takes by default.
    lora_rank : int
        With the method ``"lora"``, of every adapter.
    views : int
        With the method ``"decoder"``, how often each picture is encoded, mirrored, turned and with
        other contrast; 0 encodes crops anew at every step.
    precision : {"auto", "bfloat16", "float32"}
        Of the forward pass; by default bfloat16 where the device has it. See :meth:`for_device`.
    shares : tuple of float
        Of the way from the parent's weights to the last ones, each measured in the end as a round
        is; between 0 and 1, may be none.
    save_every_seconds : float
        How often the state of a run is saved, besides after every round.
    """

    method: Method = "full"
    steps: int = 300
    rounds: int | None = None
    learning_rate: float = 1e-4
    max_objects: int = 20
    seed: int = 0
    recipe: RecipeName = "auto"
    crop_sizes: tuple[CropSize, ...] | None = None
    lora_rank: int = 8
    views: int = 4
    precision: Precision = "auto"
    shares: tuple[float, ...] = (0.6, 0.3)
    save_every_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        require_at_least(1, steps=self.steps, max_objects=self.max_objects)
        require_at_least(1, lora_rank=self.lora_rank)
        require_at_least(0, views=self.views)
        require_positive(learning_rate=self.learning_rate)
        require_precision(self.precision)
        if self.crop_sizes is not None and (
            not self.crop_sizes
            or any(one.pixels % 32 or min(vars(one).values()) <= 0 for one in self.crop_sizes)
        ):
            raise ValueError(
                "crop_sizes must hold sizes with positive values, pixels in multiples of 32, got "
                f"{self.crop_sizes}"
            )
        if not 1 <= self.round_count <= self.steps:
            raise ValueError(
                f"rounds must lie between 1 and steps, got {self.rounds} rounds of {self.steps}"
            )
        if not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares must lie between 0 and 1, got {self.shares}")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ValueError(f"seed must lie between 0 and {_LARGEST_SEED}, got {self.seed}")

    def for_device(self, device: torch.device | str) -> Self:
        """Return the same with a precision that is settled, as runs keep it."""
        from sam_plugins.model.training.precision import resolve_precision

        return replace(self, precision=resolve_precision(self.precision, device))

    @property
    def round_count(self) -> int:
        """How often the weights are measured.

        Examples
        --------
        >>> FineTuningOptions().round_count, FineTuningOptions(steps=3).round_count
        (6, 3)
        """
        return min(_USUAL_ROUNDS, self.steps) if self.rounds is None else self.rounds
