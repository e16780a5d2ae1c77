"""The numbers of a distillation: plain values, checked, kept beside its state as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sam_plugins.model.training.choices import Precision, require_precision
from sam_plugins.model.training.pretraining_config import warm_cosine
from sam_plugins.model.training.ranges import require_at_least, require_positive


@dataclass(frozen=True)
class DistillationConfig:
    """How a small image encoder learns to answer as a large one.

    Parameters
    ----------
    steps, batch_size : int
        Steps in which the encoder learns the teacher's maps, and pictures in each.
    decoder_steps : int
        Steps after these in which the mask decoder learns the teacher's masks from the student's
        maps. MobileSAM needs none; where pictures are few, it makes up for what the encoder missed.
    learning_rate, decoder_learning_rate, weight_decay : float
        Of AdamW; each kind of steps begins with a rise and ends with half a cosine.
    warmup_steps : int
        Steps of the rise; at most a tenth of the steps.
    max_gradient_norm : float
    held_out_share : float
        Share of the pictures that is only measured on: one at least where there are four, up to 64.
    checks : int
        How often that is done.
    clicks, decoder_clicks : int
        On every picture, when masks are compared, and when the decoder learns: with the shipped
        model's decoder and 16 clicks, such a step takes as long as ten of the encoder.
    precision : {"auto", "bfloat16", "float32"}
        Of the student's forward pass; by default bfloat16 where the device has it.
        A run keeps what it began with.
    seed : int
        Of weights, order and clicks.
    """

    steps: int = 4000
    batch_size: int = 4
    decoder_steps: int = 0
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup_steps: int = 100
    max_gradient_norm: float = 3.0
    held_out_share: float = 0.1
    checks: int = 5
    clicks: int = 16
    decoder_clicks: int = 4
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        require_at_least(1, steps=self.steps, batch_size=self.batch_size, checks=self.checks)
        require_at_least(1, clicks=self.clicks, decoder_clicks=self.decoder_clicks)
        require_at_least(0, decoder_steps=self.decoder_steps, warmup_steps=self.warmup_steps)
        require_at_least(0, weight_decay=self.weight_decay, seed=self.seed)
        require_positive(learning_rate=self.learning_rate)
        require_positive(decoder_learning_rate=self.decoder_learning_rate)
        require_positive(max_gradient_norm=self.max_gradient_norm)
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie in [0, 1), got {self.held_out_share}")
        require_precision(self.precision)

    @property
    def all_steps(self) -> int:
        """Steps of the encoder and of the decoder."""
        return self.steps + self.decoder_steps

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, of the encoder first and then of the decoder.

        Examples
        --------
        >>> config = DistillationConfig(steps=100, decoder_steps=50, warmup_steps=0)
        >>> config.learning_rate_at(0), config.learning_rate_at(100)
        (0.001, 0.0001)
        """
        if step < self.steps:
            warmup = min(self.warmup_steps, self.steps // 10)
            return self.learning_rate * warm_cosine(step, self.steps, warmup)
        warmup = min(self.warmup_steps, self.decoder_steps // 10)
        return self.decoder_learning_rate * warm_cosine(
            step - self.steps, self.decoder_steps, warmup
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
