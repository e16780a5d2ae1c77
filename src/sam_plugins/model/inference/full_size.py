"""Masks at the size of the picture, drawn only where they can be.

A low-resolution mask means: enlarge the logits to the padded input, cut the padding off, resize to
the picture, each time bilinearly, and cut at a threshold (SAM's post-processing). Every one of
these steps works on rows and columns separately, so that together they are two matrices:
``full = rows @ logits @ columns.T``. A weighted mean exceeds the threshold only if one of its parts
does, so only the window that the positive logits reach needs to be computed: a few per cent of the
picture for most objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.io.windows import Window, tight_window

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_MAX_AXES = 16
_MAX_DENSE = 1 << 20
"""Weights of an axis that are also kept as a whole matrix: 4 MB, 4,096 pixels from 256."""


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

    ``band`` of shape (full, k) holds the weights of ``k`` low pixels in a row, each row summing to
    1: the picture's side may be long, but each of its pixels is made of few. ``support`` of shape
    (full, 2) holds the first of them, where the band begins, and the last with any weight;
    ``reach`` of shape (low, 2) the first and last full pixel that each low one touches (first >
    last for none). ``matrix`` of shape (full, low) is the map as a whole, where it is small.
    """

    band: FloatArray
    support: IntArray
    reach: IntArray
    matrix: FloatArray | None

    @classmethod
    def of(cls, pixels: IntArray, weights: FloatArray, low: int) -> _Axis:
        """Build the map to full pixels that are made of some low ones each, both (full, n)."""
        full = len(pixels)
        has_weight = weights > 0
        first = np.where(has_weight, pixels, low).min(axis=1)
        last = np.where(has_weight, pixels, -1).max(axis=1)
        each = np.arange(full)
        band = np.zeros((full, int((last - first).max()) + 1), np.float32)
        reach = np.tile(np.array([full, -1]), (low, 1))
        for pixel, weight, counts in zip(pixels.T, weights.T, has_weight.T, strict=True):
            band[each[counts], (pixel - first)[counts]] += weight[counts]
            np.minimum.at(reach[:, 0], pixel[counts], each[counts])
            np.maximum.at(reach[:, 1], pixel[counts], each[counts])
        axis = cls(band, np.stack([first, last], axis=1), reach, None)
        if full * low > _MAX_DENSE:
            return axis
        return replace(axis, matrix=axis.weights(slice(0, full), slice(0, low)))

    def weights(self, rows: slice, cells: slice) -> FloatArray:
        """Return the weights (rows, cells) of full pixels and of the low ones that make them."""
        if self.matrix is not None:
            return self.matrix[rows, cells]
        band = self.band[rows]
        count, width = band.shape
        # Room for the zeros at the end of the last bands.
        length = cells.stop - cells.start + width - 1
        found = np.zeros((count, length), np.float32)
        starts = np.arange(count) * length + self.support[rows, 0] - cells.start
        found.reshape(-1)[starts[:, None] + np.arange(width)] = band
        return found[:, : cells.stop - cells.start]

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
        inside = tight_window(logits > threshold)
        if inside is None:
            return CutLogits((nothing, nothing), (nothing, nothing), np.zeros((0, 0), np.float32))
        row_axis, column_axis = self._axes()
        rows, from_rows = row_axis.window(inside[0].start, inside[0].stop - 1)
        columns, from_columns = column_axis.window(inside[1].start, inside[1].stop - 1)
        cells = (from_rows, from_columns)
        return CutLogits((rows, columns), cells, logits[cells].copy())

    def draw_cut(self, cut: CutLogits, threshold: float = 0.0) -> WindowMask:
        """Return the mask of logits that :meth:`cut` cut out.

        Parameters
        ----------
        cut : CutLogits
            Of this chain of sizes.
        threshold : float
            Not lower than the one that the logits were cut with.

        Returns
        -------
        WindowMask
            ``mask`` is of the window's shape, bool; without pixels where there is no window.
        """
        values = self.enlarge_cut(cut)
        if not values.size:
            nothing = slice(0, 0)
            return WindowMask((nothing, nothing), np.zeros((0, 0), bool))
        return WindowMask(cut.window, values > threshold)

    def enlarge_cut(self, cut: CutLogits) -> FloatArray:
        """Return the logits of the window's pixels, of which :meth:`draw_cut` makes a mask.

        Parameters
        ----------
        cut : CutLogits
            Of this chain of sizes.

        Returns
        -------
        ndarray of the window's shape, float32
            Of shape (0, 0) where there is no window.
        """
        rows, columns = cut.window
        if rows.start == rows.stop or columns.start == columns.stop:
            return np.zeros((0, 0), np.float32)
        row_axis, column_axis = self._axes()
        from_rows, from_columns = cut.cells
        return _product(
            row_axis.weights(rows, from_rows),
            cut.logits,
            column_axis.weights(columns, from_columns).T,
        )

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


def _product(first: FloatArray, second: FloatArray, third: FloatArray) -> FloatArray:
    """Multiply three matrices.

    By PyTorch: after a product of NumPy, a thread of its OpenBLAS spins for tens of milliseconds,
    which takes half of a machine of two cores away from the answers that follow.
    """
    one, two, three = (torch.from_numpy(matrix).float() for matrix in (first, second, third))
    values: FloatArray = (one @ two @ three).numpy()
    return values


@lru_cache(maxsize=_MAX_AXES)
def _axis(low: int, padded: int, inner: int, full: int) -> _Axis:
    """Return the two bilinear resizings of one axis, and the cut between them, as one map."""
    low_pixels, low_weights = _taps(low, padded)
    inner_pixels, inner_weights = _taps(inner, full)
    pixels = low_pixels[inner_pixels].reshape(full, -1)
    weights = (low_weights[inner_pixels] * inner_weights[..., None]).reshape(full, -1)
    return _Axis.of(pixels, weights, low)


def _taps(before: int, after: int) -> tuple[IntArray, FloatArray]:
    """Return which two pixels each resized one is made of, and by what parts, both (after, 2).

    As PyTorch's bilinear resizing has it: the position is rounded to float32 once.
    """
    scale = float(np.float32(before) / np.float32(after))
    positions = (scale * (np.arange(after) + 0.5) - 0.5).astype(np.float32).clip(0, before - 1)
    lower = positions.astype(np.int64)
    part = (positions - lower).astype(np.float32)
    pixels = np.stack([lower, np.minimum(lower + 1, before - 1)], axis=1)
    return pixels, np.stack([1 - part, part], axis=1)


def _resize(maps: torch.Tensor, size_hw: SizeHW) -> torch.Tensor:
    """Resize maps of shape (N, C, h, w) bilinearly."""
    if tuple(maps.shape[-2:]) == tuple(size_hw):
        return maps
    return torch.nn.functional.interpolate(
        maps, size=tuple(size_hw), mode="bilinear", align_corners=False
    )
