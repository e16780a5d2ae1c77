"""What fine-tuning tells while it goes on, and what it asks of the place that keeps a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.labelled import LabelledFile


class TrainingProgress(NamedTuple):
    """How far fine-tuning is: a loss after each step, ``figures`` after each round.

    While a round is measured, ``measuring`` tells how many held-out pictures are done, and how many
    there are; ``preparing`` tells the same of the pictures that are encoded before the first round,
    with the method ``"decoder"``. ``seconds_left`` guesses from the time of the steps so far; None
    at first.
    """

    step: int
    steps: int
    loss: float | None = None
    figures: Mapping[str, float] | None = None
    seconds_left: float | None = None
    measuring: tuple[int, int] | None = None
    preparing: tuple[int, int] | None = None


class Run(Protocol):
    """Where a run keeps what it needs to go on, and what people look at."""

    @property
    def state_path(self) -> Path:
        """The file to go on from."""

    @property
    def way_on(self) -> str:
        """How people go on from the state."""

    @property
    def adapter_path(self) -> Path:
        """The folder of the best adapters."""

    def rounds(self) -> list[Round]:
        """Return what was measured so far."""

    def write_rounds(self, rounds: Sequence[Round]) -> None:
        """Note what was measured."""

    def cut_log(self, step: int) -> None:
        """Forget what was logged after a step."""

    def append_log(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Note the figures of a step."""

    def draw(self, model: Model, rounds: Sequence[Round], files: Sequence[LabelledFile]) -> None:
        """Draw curves, and what a model does after the last round."""

    def close(self, *, is_complete: bool) -> None:
        """End the logs, and remove the state of a complete run."""
