"""Masks of objects of a picture of any size: each in the window that answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import SizeChain, WindowMask
from sam_plugins.model.io.windows import tight_window
from sam_plugins.model.large.zoom import Extent, View

FloatArray = npt.NDArray[np.float32]

OUTSIDE = -10.0
"""Logit of what a window did not see."""

_CELL = 4  # input pixels along a cell of the low-resolution masks


@dataclass(frozen=True, eq=False)
class LargeMask:
    """The C masks of one object, in the window of the picture that answered.

    Parameters
    ----------
    view : View
        The window and its level.
    logits : ndarray of shape (C, h, w), float32
        Low-resolution logits.
    iou_predictions : ndarray of shape (C,), float32
    sizes : SizeChain
        From the logits to the window.
    """

    view: View
    logits: FloatArray
    iou_predictions: FloatArray
    sizes: SizeChain

    @property
    def best(self) -> int:
        """The mask that the model trusts most."""
        return int(self.iou_predictions.argmax())

    def extent(self, which: int) -> Extent | None:
        """Return the box around a mask in pixels of the picture, None for an empty one."""
        inside = self.logits[which] > 0
        window = tight_window(inside)
        if window is None:
            return None
        rows, columns = window
        (down, across), view = self.cell_hw, self.view
        return Extent(
            view.left + columns.start * across,
            view.top + rows.start * down,
            min(view.left + columns.stop * across, view.right),
            min(view.top + rows.stop * down, view.bottom),
        )

    @property
    def cell_hw(self) -> tuple[float, float]:
        """Pixels of the picture along a cell, down and across."""
        return cell_of(self.sizes.original_size_hw, self.sizes.input_size_hw)


@dataclass(frozen=True, eq=False)
class LargePrediction:
    """C masks for each of N objects of a picture of any size.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    objects : tuple of LargeMask
        In the order of the prompts.
    """

    size_hw: SizeHW
    objects: tuple[LargeMask, ...]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.objects)

    @property
    def iou_predictions(self) -> FloatArray:
        """The IoU that the model expects of each mask, (N, C), about 0 to 1."""
        return np.stack([one.iou_predictions for one in self.objects])

    @property
    def levels(self) -> tuple[int, ...]:
        """The level at which each object was answered; 0 is the picture's own resolution."""
        return tuple(one.view.level for one in self.objects)

    def window_mask(self, index: int, which: int | None = None) -> WindowMask:
        """Return one mask of one object within the part of the picture that it can reach.

        Parameters
        ----------
        index : int
            The object.
        which : int, optional
            The mask; the one that the model trusts most by default.

        Returns
        -------
        WindowMask
            Rows and columns of the picture, and the mask there; nothing is elsewhere.
        """
        one = self.objects[index]
        (rows, columns), mask = one.sizes.draw(one.logits[one.best if which is None else which])
        top, left = one.view.top, one.view.left
        return WindowMask(
            (
                slice(rows.start + top, rows.stop + top),
                slice(columns.start + left, columns.stop + left),
            ),
            mask,
        )


def cell_of(original_size_hw: SizeHW, input_size_hw: SizeHW) -> tuple[float, float]:
    """Return the pixels of a picture along a low-resolution cell, down and across."""
    down, across = (
        _CELL * original / inner
        for original, inner in zip(original_size_hw, input_size_hw, strict=True)
    )
    return down, across


def resampled(
    one: LargeMask,
    which: int,
    view: View,
    cells_hw: SizeHW,
    input_size_hw: SizeHW,
    *,
    outside: float = OUTSIDE,
) -> FloatArray:
    """Return the logits of a mask as low-resolution logits of another window.

    Parameters
    ----------
    one : LargeMask
    which : int
        The mask.
    view : View
        The other window.
    cells_hw, input_size_hw : (int, int)
        Of its low-resolution logits, and of the network's input without padding.
    outside : float
        What stands where the mask's window does not reach.

    Returns
    -------
    ndarray of shape (h, w), float32
    """
    logits: FloatArray = one.logits[which]
    if one.view == view and logits.shape == cells_hw:
        return logits
    places = [
        (start + (np.arange(number) + 0.5) * cell - origin) / cell_before - 0.5
        for start, number, cell, origin, cell_before in zip(
            (view.top, view.left),
            cells_hw,
            cell_of(view.size_hw, input_size_hw),
            (one.view.top, one.view.left),
            one.cell_hw,
            strict=True,
        )
    ]
    found = ndimage.map_coordinates(
        logits, np.meshgrid(*places, indexing="ij"), order=1, cval=outside
    )
    return np.asarray(found, np.float32)


def weighted_mean(parts: Sequence[tuple[float, LargeMask]]) -> LargeMask:
    """Return what several windows say about one object, in the first of them.

    Parameters
    ----------
    parts : sequence of (float, LargeMask)
        Weights, and masks of windows of one level; all windows hold the object.
    """
    first = parts[0][1]
    cells = (first.logits.shape[1], first.logits.shape[2])
    total = np.zeros_like(first.logits)
    weights = np.zeros(cells, np.float32)
    for weight, one in parts:
        logits = np.stack(
            [
                resampled(one, which, first.view, cells, first.sizes.input_size_hw, outside=np.nan)
                for which in range(len(one.logits))
            ]
        )
        is_seen = ~np.isnan(logits[0])
        total += weight * np.where(is_seen, logits, 0)
        weights += weight * is_seen
    guesses = sum(weight * one.iou_predictions for weight, one in parts)
    share = sum(weight for weight, _ in parts)
    return replace(
        first,
        logits=np.where(weights > 0, total / np.maximum(weights, 1e-6), OUTSIDE),
        iou_predictions=np.asarray(guesses / share, np.float32),
    )
