"""Volumes that are known to the voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint16]


def balls(
    shape: tuple[int, int, int],
    centres_zyx: list[tuple[float, float, float]],
    radii: list[float],
    voxel_size_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Labels:
    """Return round objects, radii and centres in units of the voxel size."""
    labels = np.zeros(shape, np.uint16)
    grid = [g * s for g, s in zip(np.indices(shape), voxel_size_zyx, strict=True)]
    for number, (centre, radius) in enumerate(zip(centres_zyx, radii, strict=True), 1):
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        labels[distance <= radius**2] = number
    return labels


def picture(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.where(labels > 0, 220, 20).astype(np.uint8)


def iou(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    a, b = first > 0, second > 0
    return float((a & b).sum() / (a | b).sum())
