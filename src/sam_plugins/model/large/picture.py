"""What the model sees of a window of a picture, whose contrast is that of the whole picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.rgb import (
    Channels,
    Limits,
    checked_channel_axis,
    contrast_limits,
    to_rgb,
)
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.plan import size_of

_MAX_READ_VALUES = 1 << 25
"""Of a window that is reduced, so many values are in memory at a time."""


_MAX_BLOCK_VALUES = 1 << 22
"""Of these, so many become floating-point numbers at a time."""


@dataclass(frozen=True, eq=False)
class LazyPicture:
    """A picture that is read window by window.

    Parameters
    ----------
    array : array of shape (H, W), (H, W, C) or (C, H, W)
        NumPy, Zarr, Dask, a memory map: anything with ``shape``, ``dtype`` and slicing.
    channels : int, sequence of int, or mapping of colour to int, optional
        As for :func:`~sam_plugins.to_rgb`.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of the whole picture,
        estimated on a regular grid of its pixels.
    channel_axis : int, optional
        Guessed by default.
    sample : array, optional
        A coarser copy of the picture, from which the limits are estimated: a level of its pyramid.
    coarser : callable, optional
        Returns the coarser levels of its pyramid, the finest of them first, from which windows are
        reduced; opened when first asked.

    Raises
    ------
    UnusableImageError, ValueError, TypeError
        As for :func:`~sam_plugins.to_rgb`.
    """

    array: SliceableArray
    channels: Channels | None = None
    limits: Limits | Sequence[Limits] | None = None
    channel_axis: int | None = None
    sample: SliceableArray | None = None
    coarser: Callable[[], Sequence[SliceableArray]] | None = None

    def __post_init__(self) -> None:
        """Find the axis of the channels once, on the whole picture: a window may look different."""
        axis = checked_channel_axis(self.array, self.channels, self.channel_axis)
        object.__setattr__(self, "channel_axis", axis)

    @property
    def size_hw(self) -> SizeHW:
        """Height and width."""
        height, width = (int(n) for i, n in enumerate(self.array.shape) if i != self.channel_axis)
        return height, width

    @cached_property
    def contrast(self) -> Limits | list[Limits]:
        """The limits of all windows: one pair, or one for each shown channel."""
        if self.limits is not None:
            one = np.asarray(self.limits, np.float64)
            pairs = [(float(low), float(high)) for low, high in one.reshape(-1, 2)]
            return pairs[0] if one.ndim == 1 else pairs
        source = self.array if self.sample is None else self.sample
        return contrast_limits(source, self.channels, channel_axis=self.channel_axis)

    def with_contrast(self) -> LazyPicture:
        """Return the picture with its limits fixed, so that no one estimates them again."""
        return replace(self, limits=self.contrast, sample=None)

    def sampled(self, count: int) -> npt.NDArray[Any]:
        """Return about so many pixels on a regular grid, as an array like the picture."""
        height, width = self.size_hw
        step = max(1, math.ceil(math.sqrt(height * width / count)))
        where = [slice(None, None, step)] * 2
        if self.channel_axis is not None:
            where.insert(self.channel_axis, slice(None))
        return np.asarray(self.array[tuple(where)])

    def rgb(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return what the model sees of a window.

        Parameters
        ----------
        window : (slice, slice)
            Rows and columns, within the picture.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            Black where no value is finite.

        Raises
        ------
        UnreadableImageError
            If the file breaks while it is read.
        """
        return self._coloured(self._read(window))

    def _coloured(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return what the model sees of values."""
        if values.dtype.kind == "f" and not np.isfinite(values).any():
            size = [n for axis, n in enumerate(values.shape) if axis != self.channel_axis]
            return np.zeros((*size, 3), np.uint8)
        return to_rgb(values, self.channels, self.contrast, channel_axis=self.channel_axis)

    def reduced(self, window: Window, size_hw: SizeHW) -> npt.NDArray[np.uint8]:
        """Return a window at a smaller size, of which only a few rows are in memory at a time.

        Parameters
        ----------
        window : (slice, slice)
            Rows and columns, within the picture.
        size_hw : (int, int)
            Not larger than the window.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            As Pillow's bilinear filter reduces a picture, which averages. It is read from the
            coarsest level of the pyramid that is not coarser than the result. A window of many
            values is first averaged over small squares of whole pixels.
        """
        level, (top, left, bottom, right) = self._level_for(window, size_hw)
        if level is not self:
            rows = slice(math.floor(top), math.ceil(bottom))
            columns = slice(math.floor(left), math.ceil(right))
            box = (
                left - columns.start,
                top - rows.start,
                right - columns.start,
                bottom - rows.start,
            )
            picture = Image.fromarray(level.rgb((rows, columns)))
            return np.asarray(picture.resize(size_hw[::-1], Image.Resampling.BILINEAR, box))
        height, width = size_of(window)
        wanted = math.ceil(height * width / _MAX_READ_VALUES)
        scale = min(height // size_hw[0], width // size_hw[1])
        is_small = wanted <= 1 or scale < 4
        small = self.rgb(window) if is_small else self._averaged(window, scale // 2)
        picture = Image.fromarray(small)
        return np.asarray(picture.resize(size_hw[::-1], Image.Resampling.BILINEAR))

    def _level_for(
        self, window: Window, size_hw: SizeHW
    ) -> tuple[LazyPicture, tuple[float, float, float, float]]:
        """Return the level to reduce a window from, and where the window lies in it."""
        (rows, columns), (height, width) = window, self.size_hw
        found: LazyPicture = self
        edges = (float(rows.start), float(columns.start), float(rows.stop), float(columns.stop))
        for array in () if self.coarser is None else self.coarser():
            level = replace(self, array=array, limits=self.contrast, sample=None, coarser=None)
            (tall, wide), (down, across) = (
                level.size_hw,
                (level.size_hw[0] / height, level.size_hw[1] / width),
            )
            # rounding must not lead out of the level
            bottom, right = min(tall, rows.stop * down), min(wide, columns.stop * across)
            there = (rows.start * down, columns.start * across, float(bottom), float(right))
            if there[2] - there[0] < size_hw[0] or there[3] - there[1] < size_hw[1]:
                break
            found, edges = level, there
        return found, edges

    def _averaged(self, window: Window, factor: int) -> npt.NDArray[np.uint8]:
        """Return a window averaged over squares of pixels, whose last row and column may be cut.

        Values are averaged, block by block, and then become colours: few of them do.
        """
        (rows, columns), (height, width) = window, size_of(window)
        small = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
        values_per_pixel = max(1, math.prod(self.array.shape) // math.prod(self.size_hw))
        step = max(1, _MAX_BLOCK_VALUES // (width * factor * values_per_pixel))
        for first in range(0, len(small), step):
            last = min(first + step, len(small))
            start, stop = rows.start + first * factor, min(rows.start + last * factor, rows.stop)
            block = self._read((slice(start, stop), columns))
            small[first:last] = self._coloured(
                averaged_squares(block, factor, channel_axis=self.channel_axis)
            )
        return small

    def _read(self, window: Window) -> npt.NDArray[Any]:
        """Return the values of a window."""
        rows, columns = window
        height, width = self.size_hw
        if not (
            0 <= rows.start < rows.stop <= height and 0 <= columns.start < columns.stop <= width
        ):
            raise UnusableImageError(
                f"expected a window within a picture of {height} x {width} pixels, got {window}"
            )
        where: list[slice] = [rows, columns]
        if self.channel_axis is not None:
            where.insert(self.channel_axis, slice(None))
        return np.asarray(self.array[tuple(where)])


def averaged_squares(
    values: npt.NDArray[Any], factor: int, *, channel_axis: int | None
) -> npt.NDArray[np.float32]:
    """Return means over squares of pixels; values that are not finite do not count.

    Parameters
    ----------
    values : ndarray of shape (H, W), (H, W, C) or (C, H, W)
    factor : int
        Side of the squares; the last ones may be cut.
    channel_axis : int or None

    Returns
    -------
    ndarray
        NaN where no value of a square is finite.

    Examples
    --------
    >>> averaged_squares(np.array([[0, 2, 9], [4, 6, 9]]), 2, channel_axis=None)
    array([[3., 9.]], dtype=float32)
    """
    axes = [axis for axis in range(values.ndim) if axis != channel_axis]
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            sums = _sums(np.where(finite, values, 0), factor, axes)
            counts = _sums(finite, factor, axes)
            return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    count: Any = np.float32(1)
    means = _sums(values, factor, axes)
    for axis in axes:
        length = values.shape[axis]
        sizes = np.diff([*range(0, length, factor), length]).astype(np.float32)
        count = count * sizes.reshape([-1 if axis == one else 1 for one in range(values.ndim)])
    return np.asarray(means / count, np.float32)


def _sums(values: npt.NDArray[Any], factor: int, axes: Sequence[int]) -> npt.NDArray[Any]:
    """Return sums over squares, along two axes."""
    kind = np.float64 if values.dtype.itemsize > 4 else np.float32
    for axis in reversed(axes):
        starts = np.arange(0, values.shape[axis], factor)
        values = np.add.reduceat(values, starts, axis=axis, dtype=kind)
    return values
