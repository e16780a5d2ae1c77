"""Pictures, objects, and a process that writes to a store until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sam_plugins.model.engine.label_store import LabelledObject, LabelStore, ReviewState

SIZE_HW = (20, 30)
BATCH = 7
"""Objects that the writing process stores at a time."""


def write_picture(path: Path, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Write noise as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size_hw, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def square(y: int, x: int, side: int = 4, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """A mask."""
    mask = np.zeros(size_hw, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def accepted(image_id: str, mask: np.ndarray, **others: object) -> LabelledObject:
    """An object that people stand by."""
    return LabelledObject.of_mask(image_id, mask, review=ReviewState.ACCEPTED, **others)


def write_for_ever(folder: str, image_id: str, name: str, batches: int) -> None:
    """Store batch after batch; says so after each."""
    with LabelStore.open(folder) as store:
        for number in range(batches):
            store.put_objects(
                accepted(image_id, square(index, number % 20), object_id=f"{name}-{number}-{index}")
                for index in range(BATCH)
            )
            print(number, flush=True)


if __name__ == "__main__":
    write_for_ever(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
