"""Objects larger than a tile shows well: the whole picture is segmented once more, reduced.

A model divides what fills much of its input, and sees only parts of what is larger than a window.
In the reduced picture the same objects have the size that it knows. Where one of them holds several
objects that tiles saw, these become one; their outlines, which are finer, stay, and only gaps are
filled from the reduced picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.volume.linking import pairs_of
from sam_plugins.model.io.windows import Window

LENGTH_SHARE = 8
"""Objects of more than this part of a tile are looked at in the reduced picture."""

_MIN_CELLS = 24
"""What is shorter in the reduced picture is seen too badly there."""


@dataclass(frozen=True)
class CoarseOptions:
    """When an object of the reduced picture replaces those that tiles saw.

    Parameters
    ----------
    side : int
        Longer side of the reduced picture in pixels: the model's longest input.
    min_length : int
        Of an object, in pixels of the picture.
    min_inside : float
        An object of tiles is a piece of the one that holds so much of it.
    min_covered : float
        The pieces have to fill this share of the object.
    max_pieces : int
        More pieces are objects of their own that lie close together.
    """

    side: int
    min_length: int
    min_inside: float = 0.75
    min_covered: float = 0.5
    max_pieces: int = 4

    def size_of(self, size_hw: SizeHW) -> SizeHW:
        """Return height and width of the reduced picture; no larger than the picture."""
        scale = min(1.0, self.side / max(size_hw))
        height, width = (max(1, round(length * scale)) for length in size_hw)
        return height, width


class Pieces(NamedTuple):
    """An object of the reduced picture, and the numbers of those that it replaces."""

    label: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CoarseLabels:
    """Labels of the reduced picture, on the pixels of the picture.

    Parameters
    ----------
    labels : ndarray of shape (h, w), integer
        Of the reduced picture, 0 is background.
    size_hw : (int, int)
        Of the picture.
    """

    labels: npt.NDArray[np.integer]
    size_hw: SizeHW

    def nearest(self, window: Window) -> npt.NDArray[np.integer]:
        """Return the labels of a window of the picture, by the nearest pixel."""
        rows, columns = (
            np.rint(places).astype(np.intp).clip(0, length - 1)
            for places, length in zip(self._places(window), self.labels.shape, strict=True)
        )
        seen: npt.NDArray[np.integer] = self.labels[rows[:, None], columns]
        return seen

    def smooth(self, window: Window) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        """Yield the objects of a window and their masks there, whose outlines have no steps."""
        down, across = self._places(window)
        (top, bottom), (left, right) = (
            (max(0, int(places[0]) - 1), int(places[-1]) + 3) for places in (down, across)
        )
        part = self.labels[top:bottom, left:right]
        for label in np.unique(part[part > 0]).tolist():
            soft = (part == label).astype(np.float32)
            rows = _between(soft, down - top)
            yield label, _between(rows.T, across - left).T > 0.5

    def _places(self, window: Window) -> list[npt.NDArray[np.float64]]:
        """Return where the rows and columns of a window lie in the reduced picture."""
        return [
            (np.arange(part.start, part.stop) + 0.5) * small / length - 0.5
            for part, small, length in zip(window, self.labels.shape, self.size_hw, strict=True)
        ]


class Overlaps:
    """How many pixels objects of tiles share with objects of the reduced picture."""

    def __init__(self) -> None:
        self.areas: dict[int, int] = defaultdict(int)
        self.shared: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, numbers: npt.NDArray[np.int64], coarse: npt.NDArray[np.integer]) -> None:
        """Count a window.

        Parameters
        ----------
        numbers : ndarray of shape (h, w), int64
            The object of the picture that each pixel is drawn as, by one tile; 0 for none.
        coarse : ndarray of shape (h, w), integer
            Labels of the reduced picture there.
        """
        present, pixels = np.unique(numbers[numbers > 0], return_counts=True)
        for number, count in zip(present.tolist(), pixels.tolist(), strict=True):
            self.areas[number] += count
        for number, label, count in pairs_of(numbers, coarse):
            self.shared[label][number] += count


def winners(coarse: CoarseLabels, overlaps: Overlaps, options: CoarseOptions) -> list[Pieces]:
    """Return which objects of the reduced picture replace which objects of tiles.

    Parameters
    ----------
    coarse : CoarseLabels
    overlaps : Overlaps
        Of all tiles.
    options : CoarseOptions
    """
    found = []
    down, across = (
        length / small for length, small in zip(coarse.size_hw, coarse.labels.shape, strict=True)
    )
    for place, where in enumerate(ndimage.find_objects(coarse.labels)):
        if where is None:
            continue
        label, (height, width) = place + 1, (part.stop - part.start for part in where)
        is_seen = max(height, width) >= _MIN_CELLS
        if not is_seen or max(height * down, width * across) < options.min_length:
            continue
        shared = overlaps.shared.get(label, {})
        numbers = tuple(
            number
            for number in sorted(shared)
            if shared[number] >= options.min_inside * overlaps.areas[number]
        )
        area = float((coarse.labels[where] == label).sum()) * down * across
        covered = sum(shared[number] for number in numbers)
        if 2 <= len(numbers) <= options.max_pieces and covered >= options.min_covered * area:
            found.append(Pieces(label, numbers))
    return found


def only(coarse: CoarseLabels, numbers: Sequence[tuple[int, int]]) -> CoarseLabels:
    """Return some of the objects, by pairs of label and new number."""
    table = np.zeros(int(coarse.labels.max(initial=0)) + 1, np.int64)
    for label, number in numbers:
        table[label] = number
    return CoarseLabels(table[coarse.labels], coarse.size_hw)


def _between(
    values: npt.NDArray[np.float32], places: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return rows between the rows of an array, by linear interpolation; the edge goes on."""
    inside = places.clip(0, len(values) - 1)
    first = np.floor(inside).astype(np.intp)
    weight = (inside - first)[:, None].astype(np.float32)
    second = np.minimum(first + 1, len(values) - 1)
    found: npt.NDArray[np.float32] = values[first] * (1 - weight) + values[second] * weight
    return found
