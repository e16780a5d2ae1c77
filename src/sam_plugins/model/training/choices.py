"""What people choose of a training by plain values; loads no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RecipeName = Literal["auto", "paper", "shipped"]
RECIPES: tuple[RecipeName, ...] = ("auto", "paper", "shipped")

Precision = Literal["auto", "bfloat16", "float32"]
PRECISIONS: tuple[Precision, ...] = ("auto", "bfloat16", "float32")


@dataclass(frozen=True)
class CropSize:
    """One size of crops: pixels of a side, images in a batch, objects asked for in each image."""

    pixels: int
    images: int
    objects: int
    probability: float


def require_precision(precision: str) -> None:
    """Refuse what is no precision.

    Raises
    ------
    ValueError
        With those that there are.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, bfloat16 or float32, got {precision!r}")
