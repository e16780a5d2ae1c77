"""Pixels and boxes of the objects of a picture, counted core by core, and their table on disk."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.io.atomic import atomic_path

COLUMNS = ("label", "score", "area", "x0", "y0", "x1", "y1", "point_x", "point_y")


@dataclass(frozen=True, eq=False)
class CoreFigures:
    """What a core holds of n objects.

    Parameters
    ----------
    labels : ndarray of shape (n,), int64
    areas : ndarray of shape (n,), int64
    boxes_xyxy : ndarray of shape (n, 4), int64
        Outermost pixels, in pixels of the picture.
    """

    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """Return the content of a file."""
        content = io.BytesIO()
        np.savez(content, labels=self.labels, areas=self.areas, boxes_xyxy=self.boxes_xyxy)
        return content.getvalue()

    @classmethod
    def read(cls, path: Path) -> CoreFigures:
        """Read a file."""
        with np.load(path) as arrays:
            return cls(arrays["labels"], arrays["areas"], arrays["boxes_xyxy"])


def figures_of(painted: npt.NDArray[np.unsignedinteger], corner_yx: tuple[int, int]) -> CoreFigures:
    """Count the objects of a core.

    Parameters
    ----------
    painted : ndarray of shape (h, w), unsigned integer
    corner_yx : (int, int)
        Row and column of its first pixel in the picture.

    Examples
    --------
    >>> found = figures_of(np.array([[0, 7], [7, 7]], np.uint32), (10, 20))
    >>> found.labels.tolist(), found.areas.tolist(), found.boxes_xyxy.tolist()
    ([7], [3], [[20, 10, 21, 11]])
    """
    labels, dense = np.unique(painted, return_inverse=True)
    dense = dense.reshape(painted.shape)
    if len(labels) and labels[0] > 0:  # No background: find_objects and bincount begin at 1.
        dense, labels = dense + 1, np.concatenate([[0], labels])
    areas = np.bincount(dense.ravel(), minlength=len(labels))[1:]
    top, left = corner_yx
    boxes = [
        (left + x.start, top + y.start, left + x.stop - 1, top + y.stop - 1)
        for y, x in ndimage.find_objects(dense)
    ]
    return CoreFigures(labels[1:].astype(np.int64), areas, np.array(boxes, np.int64).reshape(-1, 4))


class ObjectTable:
    """The figures of all n objects, added up core by core: some 40 bytes an object.

    Parameters
    ----------
    count : int
        n: the highest label.
    """

    def __init__(self, count: int) -> None:
        self.areas = np.zeros(count, np.int64)
        self._low = np.full((count, 2), np.iinfo(np.int64).max)
        self._high = np.full((count, 2), -1, np.int64)

    def add(self, core: CoreFigures) -> None:
        """Add what a core holds."""
        places = core.labels - 1
        self.areas[places] += core.areas
        self._low[places] = np.minimum(self._low[places], core.boxes_xyxy[:, :2])
        self._high[places] = np.maximum(self._high[places], core.boxes_xyxy[:, 2:])

    def write(
        self, path: Path, scores: npt.NDArray[np.float32], points_xy: npt.NDArray[np.float32]
    ) -> int:
        """Write a row for each object that has pixels; return how many these are.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        present = np.flatnonzero(self.areas)
        with (
            atomic_path(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for place in present.tolist():
                box = (*self._low[place].tolist(), *self._high[place].tolist())
                point = (f"{value:.2f}" for value in points_xy[place])
                rows.writerow(
                    (place + 1, f"{scores[place]:.6f}", int(self.areas[place]), *box, *point)
                )
        return len(present)
