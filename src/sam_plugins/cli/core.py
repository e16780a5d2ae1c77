"""The core as the commands use it; torch is imported when this is first called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PromptChoice:
    """The prompts of the command line, in pixels of the image.

    Parameters
    ----------
    points_xy, negatives_xy : sequence of (float, float)
        Points inside and outside of one object.
    boxes_xyxy : sequence of (float, float, float, float)
        One object each; with points at most one.
    mask : int, optional
        Which of the masks of a single point, from 1; by default the most confident one.
    """

    points_xy: Sequence[tuple[float, float]] = ()
    negatives_xy: Sequence[tuple[float, float]] = ()
    boxes_xyxy: Sequence[tuple[float, float, float, float]] = ()
    mask: int | None = None

    def __bool__(self) -> bool:
        """Return whether there is any prompt."""
        return bool(self.points_xy or self.negatives_xy or self.boxes_xyxy)


@dataclass(frozen=True)
class Found:
    """The objects of one image: label ``i + 1`` has score ``i``."""

    labels: npt.NDArray[np.integer[Any]]
    scores: npt.NDArray[np.floating[Any]]
    points_xy: npt.NDArray[np.floating[Any]] | None = field(default=None)


class Core(Protocol):
    """A loaded model that turns pictures into objects."""

    @property
    def model_id(self) -> str:
        """Name and digest of the weights."""

    def automatic(self, rgb: npt.NDArray[np.uint8], mode: str, progress: Progress | None) -> Found:
        """Return all objects of a picture."""

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        """Return the prompted objects of a picture."""
