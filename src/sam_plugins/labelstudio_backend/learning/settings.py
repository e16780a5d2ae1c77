"""What a backend is told about learning."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sam_plugins.labelstudio_backend.learning.training import TrainingSettings
from sam_plugins.model.weights.registry import DEFAULT_MODEL

HELD_OUT_SHARE = 0.25
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """How a backend learns.

    Parameters
    ----------
    folder : Path
        Of its state: events, labels, pictures, runs.
    url, token : str
        Of Label Studio; without them, events alone tell what was annotated.
    model : str
        Name or file of the model that projects begin with.
    held_out_share : float
        Share of the pictures that are only measured on.
    is_complete : bool
        Whether people label every visible object of a task that they submit; if not, what has no
        label is not taken for background.
    train_every : int
        Annotations after which a training begins by itself; 0 for never.
    train_at : str
        Time of day, ``"02:30"``, at which projects with new annotations are trained; empty for
        never.
    reconcile_seconds : float
        How often everything is compared with what Label Studio's API says.
    training : TrainingSettings

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    folder: Path
    url: str = ""
    token: str = field(default="", repr=False)
    model: str = DEFAULT_MODEL
    held_out_share: float = HELD_OUT_SHARE
    is_complete: bool = False
    train_every: int = 0
    train_at: str = ""
    reconcile_seconds: float = 3600.0
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie between 0 and 1, got {self.held_out_share}")
        if self.train_every < 0 or self.reconcile_seconds <= 0:
            raise ValueError(
                "train_every must be 0 or more and reconcile_seconds positive, got "
                f"{self.train_every} and {self.reconcile_seconds}"
            )
        if self.train_at and not _TIME.fullmatch(self.train_at):
            raise ValueError(
                f"train_at must be a time of day such as '02:30', got {self.train_at!r}"
            )
