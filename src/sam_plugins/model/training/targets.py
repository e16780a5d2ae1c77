"""What the instance decoder should answer: foreground, centre, distance to the border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELL = 4
"""Pixels along a cell of the maps."""

RIM_CELLS = 3
"""Cells around an object in which background is trusted on incompletely labelled pictures."""


def instance_targets(
    labels: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    complete: bool,
    rim_cells: int = RIM_CELLS,
) -> NDArray[np.float32]:
    """Return the dense targets of a crop.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        0 is background; H and W are multiples of 4.
    known : ndarray of shape (H, W), bool
        Where the truth is known.
    complete : bool
        Whether every visible object is labelled; if not, background is trusted only in a thin rim
        around objects.
    rim_cells : int
        Width of that rim, in cells.

    Returns
    -------
    ndarray of shape (4, H / 4, W / 4), float32
        Foreground (share of the cell), centre (a bump of height 1 at the innermost point of each
        object), border (distance to the object's border over its largest value, touching objects
        count as border) and known (0 or 1).
    """
    foreground = _cells(labels > 0)
    trusted = _cells(known) == 1
    if not complete:
        near = ndimage.binary_dilation(foreground > 0, iterations=rim_cells)
        trusted &= near
    if labels.any():
        # Every other pixel tells where the middle is, at a quarter of the time.
        half = np.ascontiguousarray(labels[::2, ::2])
        distance = border_distance(half)
        objects = _Objects.of(half)
        border = _cells(distance / objects.largest(distance)[half], CELL // 2)
        centre = _bumps(half, distance, objects, CELL // 2)
    else:
        border = centre = np.zeros_like(foreground)
    return np.stack([foreground, centre, border, trusted]).astype(np.float32)


def border_distance(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return for each object pixel its distance to the nearest pixel of something else.

    Examples
    --------
    >>> border_distance(np.array([[0, 1, 1, 1, 2]])).tolist()
    [[0.0, 1.0, 2.0, 1.0, 1.0]]
    """
    is_edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        step = np.diff(labels, axis=axis) != 0
        before = [slice(None)] * 2
        after = [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        is_edge[tuple(before)] |= step
        is_edge[tuple(after)] |= step
    inside = labels > 0
    if not is_edge.any():
        return inside * np.float64(max(labels.shape))
    # Seen from inside, the nearest edge pixel is the object's own: one short of what is beyond.
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~is_edge) + 1
    return distance * inside


def _cells(pixels: NDArray[Any], cell: int = CELL) -> NDArray[np.float64]:
    """Average over cells of so many pixels a side."""
    height, width = pixels.shape
    cells: NDArray[np.float64] = pixels.reshape(height // cell, cell, width // cell, cell).mean(
        axis=(1, 3), dtype=np.float64
    )
    return cells


@dataclass(frozen=True)
class _Objects:
    """The pixels of a label image sorted by label: one sort serves every measurement.

    ``scipy.ndimage`` sorts anew for each, and not by the counting sort that 16 bits allow.
    """

    order: NDArray[np.int64]  # Indices of pixels, background first.
    starts: NDArray[np.int64]  # Where the pixels of each present label begin.
    present: NDArray[np.int64]  # Labels that occur, background included if it does.
    areas: NDArray[np.int64]  # By label.

    @classmethod
    def of(cls, labels: NDArray[Any]) -> _Objects:
        flat = labels.ravel()
        areas = np.bincount(flat)
        present = np.flatnonzero(areas)
        order = np.argsort(flat.astype(np.uint16), kind="stable")
        starts = np.concatenate([[0], np.cumsum(areas[present])[:-1]])
        return cls(order, starts, present, areas)

    def largest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest value of every label, never 0."""
        largest = np.ones(len(self.areas))
        found = np.maximum.reduceat(values.ravel()[self.order], self.starts)
        largest[self.present] = np.maximum(found, 1e-6)
        return largest

    def middles_yx(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the centre of mass of every label, shape (labels, 2)."""
        middles = np.zeros((len(self.areas), 2))
        for axis, positions in enumerate(np.divmod(self.order, shape[1])):
            sums = np.add.reduceat(positions, self.starts)
            middles[self.present, axis] = sums / self.areas[self.present]
        return middles

    def positions_of_largest(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the pixel with the largest value of every present label."""
        ordered = values.ravel()[self.order]
        largest = np.maximum.reduceat(ordered, self.starts)
        repeats = self.areas[self.present]
        hits = np.flatnonzero(ordered == np.repeat(largest, repeats))
        first = np.searchsorted(hits, self.starts)
        positions: NDArray[np.int64] = self.order[hits[first]]
        return positions


def _bumps(
    labels: NDArray[Any], distance: NDArray[np.float64], objects: _Objects, cell: int
) -> NDArray[np.float64]:
    """Draw a Gaussian at the innermost point of every object, the highest wins."""
    height, width = labels.shape[0] // cell, labels.shape[1] // cell
    drawn = np.zeros((height, width))
    areas, middles = objects.areas, objects.middles_yx(labels.shape)
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    away = np.hypot(rows - middles[labels, 0], columns - middles[labels, 1])
    # Along the ridge of a long object, the point nearest to the middle.
    score = distance - 0.1 * away / np.sqrt(np.maximum(areas, 1))[labels]
    innermost = objects.positions_of_largest(score)
    for label, position in zip(objects.present, innermost, strict=True):
        if label == 0:
            continue
        y, x = divmod(int(position), labels.shape[1])
        cell_y, cell_x = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
        sigma = max(0.8, 0.1 * float(np.sqrt(areas[label])) / cell)
        reach = int(3 * sigma) + 1
        top, bottom = max(0, int(cell_y) - reach), min(height, int(cell_y) + reach + 2)
        left, right = max(0, int(cell_x) - reach), min(width, int(cell_x) + reach + 2)
        dy = np.arange(top, bottom)[:, None] - cell_y
        dx = np.arange(left, right)[None, :] - cell_x
        bump = np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
        # A centre between two cells still has a peak of 1.
        bump /= bump.max()
        window = drawn[top:bottom, left:right]
        np.maximum(window, bump, out=window)
    return drawn
