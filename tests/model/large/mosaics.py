"""Large pictures of real ones, with objects across the borders of tiles, and who finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage import data

from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.windows import Window


def coins_labels() -> npt.NDArray[np.int32]:
    """Return the coins of scikit-image's picture, (303, 384), by threshold: 24 objects."""
    coins = data.coins()
    filled = ndimage.binary_fill_holes(ndimage.gaussian_filter(coins.astype(float), 1) > 110)
    opened = ndimage.binary_opening(filled, iterations=3)
    labels, count = ndimage.label(opened)
    areas = np.bincount(labels.ravel())
    keep = np.flatnonzero(areas > 300)[1:]
    numbers = np.zeros(count + 1, np.int32)
    numbers[keep] = np.arange(1, len(keep) + 1)
    return numbers[labels]


def repeated(labels: npt.NDArray[np.int32], times: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Return a mosaic of a label image, every object with a number of its own."""
    rows = []
    largest = 0
    for _ in range(times[0]):
        row = []
        for _ in range(times[1]):
            row.append(np.where(labels > 0, labels + largest, 0))
            largest += int(labels.max())
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows).astype(np.int32)


def nuclei(test_data: Path, side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return a mosaic of real pictures of nuclei, and the truth, which people drew."""
    folder = test_data / "dsb2018" / "val"
    pictures: list[npt.NDArray[np.uint8]] = []
    truths: list[npt.NDArray[np.int32]] = []
    largest = 0
    for path, label_path in _squares(folder):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.float64)
        pictures.append((grey / np.percentile(grey, 99.8) * 200).clip(0, 255).astype(np.uint8))
        labels = np.asarray(Image.open(label_path)).astype(np.int32)
        truths.append(np.where(labels > 0, labels + largest, 0).astype(np.int32))
        largest += int(labels.max())
        if len(pictures) == (side // 256) ** 2:
            break
    across = side // 256
    return _grid(pictures, across), _grid(truths, across)


def _squares(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the fluorescence pictures of 256 x 256 pixels, and their labels."""
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as picture:
            is_dark = picture.size == (256, 256) and np.asarray(picture.convert("L")).mean() < 60
        if is_dark:
            yield path, folder / "labels" / path.name


def _grid(parts: list[npt.NDArray], across: int) -> npt.NDArray:
    """Put square parts side by side."""
    rows = [np.concatenate(parts[i : i + across], axis=1) for i in range(0, len(parts), across)]
    return np.concatenate(rows)


class Oracle:
    """Finds in a window what the truth holds there, cut at its edges, as a model would at its best.

    The truth is read from the picture that it is shown: labels as grey values, in 16 bits by two
    channels. So it needs no knowledge of tiles, and can be asked by any process.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, rgb: npt.NDArray[np.uint8], within: Window | None) -> Segmentation:
        """Return the objects of a window."""
        self.asked += 1
        return found_in(rgb, within)


def found_in(rgb: npt.NDArray[np.uint8], within: Window | None) -> Segmentation:
    """Return the objects whose numbers are drawn in the red and the green channel.

    Those that do not reach into the part that counts are left out.
    """
    numbers = rgb[..., 0].astype(np.int32) * 256 + rgb[..., 1]
    seen = numbers if within is None else numbers[within]
    present = np.unique(seen[seen > 0])
    numbers[~np.isin(numbers, present)] = 0
    labels = np.zeros(numbers.shape, np.int32)
    labels[numbers > 0] = np.searchsorted(present, numbers[numbers > 0]) + 1
    points = ndimage.center_of_mass(numbers > 0, labels, np.arange(1, len(present) + 1))
    return Segmentation(
        labels,
        np.linspace(0.9, 0.5, len(present), dtype=np.float32),
        np.array(points, np.float32).reshape(-1, 2)[:, ::-1],
    )


def drawn(truth: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Return a picture that shows an :class:`Oracle` the numbers of objects, (H, W, 3)."""
    return np.stack([truth // 256, truth % 256, np.zeros_like(truth)], axis=-1).astype(np.uint8)


def is_same_division(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> bool:
    """Return whether two label images differ in nothing but the numbers."""
    pairs = np.unique(np.stack([first.ravel(), second.ravel().astype(first.dtype)], 1), axis=0)
    return len(pairs) == len(np.unique(first)) == len(np.unique(second))
