"""Masks at the size of the picture, drawn only where they can be.

A low-resolution mask means: enlarge the logits to the padded input, cut the padding off, resize to
the picture, each time bilinearly, and cut at a threshold (SAM's post-processing). Every one of
these steps works on rows and columns separately, so that together they are two matrices:
``full = rows @ logits @ columns.T``. A weighted mean exceeds the threshold only if one of its parts
does, so only the window that the positive logits reach needs to be computed: a few per cent of the
picture for most objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sam_plugins.model.inference.coordinates import SizeHW

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Window = tuple[slice, slice]


class WindowMask(NamedTuple):
    """A mask of a picture: ``mask`` within ``window`` (rows, columns), nothing elsewhere."""

    window: Window
    mask: BoolArray


class CutLogits(NamedTuple):
    """The low-resolution logits that make the mask in a window of the picture.

    ``cells`` are their rows and columns among all low-resolution logits.
    """

    window: Window
    cells: Window
    logits: FloatArray


@dataclass(frozen=True, eq=False)
class _Axis:
    """Linear map from the low-resolution pixels of one axis to those of the picture.

    ``weights`` is of shape (full, low), each row summing to 1. ``reach`` of shape (low, 2) holds
    the first and last full pixel that each low one touches (first > last for none), ``support`` of
    shape (full, 2) the first and last low pixel that each full one is made of.
    """

    weights: FloatArray
    reach: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]

    def window(self, first: int, last: int) -> tuple[slice, slice]:
        """Return the full pixels that low ones from first to last touch, and all that make them."""
        reach = self.reach[first : last + 1]
        start, stop = int(reach[:, 0].min()), int(reach[:, 1].max()) + 1
        if start >= stop:  # they lie in the padding only
            return slice(0, 0), slice(0, 0)
        support = self.support[start:stop]
        # Where a picture is reduced, whole low pixels may be jumped over; the order never turns.
        return slice(start, stop), slice(int(support[0, 0]), int(support[-1, 1]) + 1)


@dataclass(frozen=True)
class SizeChain:
    """The sizes that lie between low-resolution logits and the picture, each (height, width).

    Parameters
    ----------
    low_res_hw : (int, int)
        Of the logits.
    padded_size_hw, input_size_hw : (int, int)
        Of the network's input with and without its padding.
    original_size_hw : (int, int)
        Of the picture.

    Raises
    ------
    ValueError
        If the input is larger than its padded size, or a size is below 1.
    """

    low_res_hw: SizeHW
    padded_size_hw: SizeHW
    input_size_hw: SizeHW
    original_size_hw: SizeHW

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = (self.low_res_hw, self.padded_size_hw, self.input_size_hw, self.original_size_hw)
        if min(min(size) for size in sizes) < 1 or any(
            inner > outer
            for inner, outer in zip(self.input_size_hw, self.padded_size_hw, strict=True)
        ):
            raise ValueError(
                "sizes must be 1 or more and the input must fit into its padding, got low_res_hw "
                f"{self.low_res_hw}, padded_size_hw {self.padded_size_hw}, input_size_hw "
                f"{self.input_size_hw}, original_size_hw {self.original_size_hw}"
            )

    def draw(self, logits: FloatArray, threshold: float = 0.0) -> WindowMask:
        """Return one mask within the window that it can reach.

        Parameters
        ----------
        logits : ndarray of shape (h, w), float32
            Low-resolution logits.
        threshold : float
            A pixel belongs to the mask where its logit is larger.

        Returns
        -------
        WindowMask
            Its window has no pixels where no logit exceeds the threshold.

        Raises
        ------
        ValueError
            If the logits are of another size.
        """
        return self.draw_cut(self.cut(logits, threshold), threshold)

    def cut(self, logits: FloatArray, threshold: float = 0.0) -> CutLogits:
        """Return all that is needed to draw one mask later, for little memory.

        Parameters and errors are those of :meth:`draw`; the threshold when drawing must not be
        lower.
        """
        if logits.shape != self.low_res_hw:
            raise ValueError(f"logits must have shape {self.low_res_hw}, got {logits.shape}")
        nothing = slice(0, 0)
        positive = logits > threshold
        in_rows = np.flatnonzero(positive.any(axis=1))
        if not in_rows.size:
            return CutLogits((nothing, nothing), (nothing, nothing), np.zeros((0, 0), np.float32))
        in_columns = np.flatnonzero(positive.any(axis=0))
        row_axis, column_axis = self._axes()
        rows, from_rows = row_axis.window(int(in_rows[0]), int(in_rows[-1]))
        columns, from_columns = column_axis.window(int(in_columns[0]), int(in_columns[-1]))
        cells = (from_rows, from_columns)
        return CutLogits((rows, columns), cells, logits[cells].copy())

    def draw_cut(self, cut: CutLogits, threshold: float = 0.0) -> WindowMask:
        """Return the mask of logits that :meth:`cut` cut out."""
        values = self.enlarge_cut(cut)
        if not values.size:
            nothing = slice(0, 0)
            return WindowMask((nothing, nothing), np.zeros((0, 0), bool))
        return WindowMask(cut.window, values > threshold)

    def enlarge_cut(self, cut: CutLogits) -> FloatArray:
        """Return the logits of the window's pixels, of which :meth:`draw_cut` makes a mask."""
        rows, columns = cut.window
        if rows.start == rows.stop or columns.start == columns.stop:
            return np.zeros((0, 0), np.float32)
        row_axis, column_axis = self._axes()
        from_rows, from_columns = cut.cells
        values = (
            row_axis.weights[rows, from_rows]
            @ cut.logits
            @ column_axis.weights[columns, from_columns].T
        )
        return values.astype(np.float32, copy=False)

    def enlarge(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits of shape (N, C, h, w) at the picture's size, as (N, C, H, W)."""
        larger = _resize(logits, self.padded_size_hw)
        larger = larger[..., : self.input_size_hw[0], : self.input_size_hw[1]]
        return _resize(larger, self.original_size_hw)

    def _axes(self) -> tuple[_Axis, _Axis]:
        """Return the maps of rows and columns."""
        rows, columns = (
            _axis(*lengths)
            for lengths in zip(
                self.low_res_hw,
                self.padded_size_hw,
                self.input_size_hw,
                self.original_size_hw,
                strict=True,
            )
        )
        return rows, columns


@lru_cache(maxsize=32)
def _axis(low: int, padded: int, inner: int, full: int) -> _Axis:
    """Return the two bilinear resizings of one axis, and the cut between them, as one map."""
    weights = _resize_rows(_resize_rows(torch.eye(low), padded)[:inner], full).numpy()
    touches = weights > 0
    reach = np.stack([touches.argmax(axis=0), full - 1 - touches[::-1].argmax(axis=0)], axis=1)
    reach[~touches.any(axis=0)] = (full, -1)
    support = np.stack([touches.argmax(axis=1), low - 1 - touches[:, ::-1].argmax(axis=1)], axis=1)
    return _Axis(weights, reach.astype(np.int64), support.astype(np.int64))


def _resize_rows(matrix: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a matrix resized bilinearly to so many rows, its columns as they are."""
    return _resize(matrix[None, None], (rows, matrix.shape[1]))[0, 0]


def _resize(maps: torch.Tensor, size_hw: SizeHW) -> torch.Tensor:
    """Resize maps of shape (N, C, h, w) bilinearly."""
    if tuple(maps.shape[-2:]) == tuple(size_hw):
        return maps
    return torch.nn.functional.interpolate(
        maps, size=tuple(size_hw), mode="bilinear", align_corners=False
    )
