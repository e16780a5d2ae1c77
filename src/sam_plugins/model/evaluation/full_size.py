"""IoU of low-resolution mask logits with objects, at the size of the picture, without drawing it.

A prediction means: enlarge the logits to the padded input, cut the padding off, resize to the
picture, each time bilinearly, and cut at a threshold (SAM's post-processing). Every one of these
steps works on rows and columns separately, so that together they are two matrices:
``full = rows @ logits @ columns.T``. And a weighted mean exceeds the threshold only if one of its
parts does, so only the window that the positive logits reach needs to be computed: a few per cent
of the picture for most objects, where drawing thousands of objects times four masks at full size
would cost more than the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.evaluation.prompts import TrueObject

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
SizeHW = tuple[int, int]
Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class _Axis:
    """Linear map from the low-resolution pixels of one axis to those of the picture.

    ``weights`` is of shape (full, low), each row summing to 1. ``reach`` of shape (low, 2) holds
    the first and last full pixel that each low one touches (first > last for none), ``support`` of
    shape (full, 2) the first and last low pixel that each full one is made of.
    """

    weights: FloatArray
    reach: NDArray[np.int64]
    support: NDArray[np.int64]

    def window(self, first: int, last: int) -> tuple[slice, slice]:
        """Return the full pixels that low ones from first to last touch, and all that make them."""
        reach = self.reach[first : last + 1]
        start, stop = int(reach[:, 0].min()), int(reach[:, 1].max()) + 1
        if start >= stop:  # they lie in the padding only
            return slice(0, 0), slice(0, 0)
        support = self.support[start:stop]
        return slice(start, stop), slice(int(support[0, 0]), int(support[-1, 1]) + 1)


class FullSizeMasks:
    """Binary masks at the picture's size from low-resolution logits, as windows.

    Parameters
    ----------
    low_res_hw : (int, int)
        Height and width of the logits.
    padded_size_hw, input_size_hw, original_size_hw : (int, int)
        Size of the network's input with and without padding, and of the picture.
    threshold : float
        A pixel belongs to the mask where its logit is larger.

    Raises
    ------
    ValueError
        If the input is larger than its padded size, or a size is below 1.
    """

    def __init__(
        self,
        low_res_hw: SizeHW,
        *,
        padded_size_hw: SizeHW,
        input_size_hw: SizeHW,
        original_size_hw: SizeHW,
        threshold: float = 0.0,
    ) -> None:
        if min(*low_res_hw, *padded_size_hw, *input_size_hw, *original_size_hw) < 1 or any(
            inner > outer for inner, outer in zip(input_size_hw, padded_size_hw, strict=True)
        ):
            raise ValueError(
                "sizes must be 1 or more and the input must fit into its padding, got low_res_hw "
                f"{low_res_hw}, padded_size_hw {padded_size_hw}, input_size_hw {input_size_hw}, "
                f"original_size_hw {original_size_hw}"
            )
        self.low_res_hw = low_res_hw
        self.original_size_hw = original_size_hw
        self.threshold = threshold
        self._rows, self._columns = (
            _axis(low, padded, inner, full)
            for low, padded, inner, full in zip(
                low_res_hw, padded_size_hw, input_size_hw, original_size_hw, strict=True
            )
        )

    def windows(self, logits: FloatArray) -> list[tuple[Window, BoolArray]]:
        """Return each mask within the window that it can reach.

        Parameters
        ----------
        logits : ndarray of shape (n, h, w), float32
            Low-resolution logits.

        Returns
        -------
        list of ((slice, slice), ndarray of bool)
            Rows and columns of the picture, and the mask there; it is empty everywhere else.

        Raises
        ------
        ValueError
            If the logits are not of the size that this object was made for.
        """
        if logits.ndim != 3 or logits.shape[1:] != self.low_res_hw:
            raise ValueError(f"logits must have shape (n, {self.low_res_hw}), got {logits.shape}")
        positive = np.greater(logits, self.threshold)
        height, width = self.low_res_hw
        in_rows = np.any(positive, axis=2)
        in_columns = np.any(positive, axis=1)
        spans = np.stack(
            [
                in_rows.argmax(axis=1),
                height - 1 - in_rows[:, ::-1].argmax(axis=1),
                in_columns.argmax(axis=1),
                width - 1 - in_columns[:, ::-1].argmax(axis=1),
            ],
            axis=1,
        )
        nothing = (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
        return [
            self._draw(one, *map(int, span)) if found else nothing
            for one, span, found in zip(logits, spans, np.any(in_rows, axis=1), strict=True)
        ]

    def ious(
        self,
        logits: NDArray[Any],
        objects: Sequence[TrueObject],
        *,
        counted: BoolArray | None = None,
    ) -> NDArray[np.float64]:
        """Return the IoU of every mask of every object with the object itself.

        Parameters
        ----------
        logits : ndarray of shape (N, C, h, w), float
            Low-resolution logits of C masks for each of N objects.
        objects : sequence of N TrueObject
            What each prompt meant.
        counted : ndarray of shape (H, W), bool, optional
            False where pixels are ignored, on both sides. All count by default.

        Returns
        -------
        ndarray of shape (N, C), float64
            In [0, 1]; NaN for an object of which no pixel counts.

        Raises
        ------
        ValueError
            If the logits are not C masks of the expected size for each object.
        """
        if logits.ndim != 4 or len(objects) != logits.shape[0]:
            raise ValueError(
                f"logits must have shape ({len(objects)}, C, {self.low_res_hw}), got {logits.shape}"
            )
        flat = logits.reshape(-1, *logits.shape[2:]).astype(np.float32, copy=False)
        drawn = self.windows(flat)
        per_object = logits.shape[1]
        result = np.empty(logits.shape[:2])
        for index, true in enumerate(objects):
            mask = true.mask if counted is None else true.mask & counted[true.window]
            area = int(np.count_nonzero(mask))
            for which in range(per_object):
                window, predicted = drawn[index * per_object + which]
                if counted is not None:
                    predicted = predicted & counted[window]
                shared = _shared_pixels(true.window, mask, window, predicted)
                union = area + int(np.count_nonzero(predicted)) - shared
                result[index, which] = shared / union if area else np.nan
        return result

    def _draw(
        self, logits: FloatArray, top: int, bottom: int, left: int, right: int
    ) -> tuple[Window, BoolArray]:
        """Return one mask within the window that its positive logits reach."""
        rows, from_rows = self._rows.window(top, bottom)
        columns, from_columns = self._columns.window(left, right)
        row_weights = self._rows.weights[rows, from_rows]
        column_weights = self._columns.weights[columns, from_columns]
        values = row_weights @ logits[from_rows, from_columns] @ column_weights.T
        return (rows, columns), values > self.threshold


@lru_cache(maxsize=32)
def _axis(low: int, padded: int, inner: int, full: int) -> _Axis:
    """Return the two bilinear resizings of one axis, and the cut between them, as one map."""
    weights = _resize_rows(_resize_rows(torch.eye(low), padded)[:inner], full).numpy()
    touches = weights > 0
    reach = np.stack([touches.argmax(axis=0), full - 1 - touches[::-1].argmax(axis=0)], axis=1)
    reach[~touches.any(axis=0)] = (full, -1)
    support = np.stack([touches.argmax(axis=1), low - 1 - touches[:, ::-1].argmax(axis=1)], axis=1)
    # Where a picture is reduced, whole low pixels may be jumped over, but the order never turns.
    return _Axis(weights, reach.astype(np.int64), support.astype(np.int64))


def _resize_rows(matrix: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a matrix resized bilinearly to so many rows, its columns as they are."""
    resized: torch.Tensor = torch.nn.functional.interpolate(
        matrix[None, None], size=(rows, matrix.shape[1]), mode="bilinear", align_corners=False
    )
    return resized[0, 0]


def _shared_pixels(
    first_window: Window, first: BoolArray, second_window: Window, second: BoolArray
) -> int:
    """Return the pixels that two masks share, each given in its own window of one picture."""
    cuts = []
    for one, other in zip(first_window, second_window, strict=True):
        start, stop = max(one.start, other.start), min(one.stop, other.stop)
        if start >= stop:
            return 0
        cuts.append(
            (
                slice(start - one.start, stop - one.start),
                slice(start - other.start, stop - other.start),
            )
        )
    (first_rows, second_rows), (first_columns, second_columns) = cuts
    both = first[first_rows, first_columns] & second[second_rows, second_columns]
    return int(np.count_nonzero(both))
