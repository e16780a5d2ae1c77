"""What the model sees of a window of a picture, whose contrast is that of the whole picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        values = self._read(window)
        if values.dtype.kind == "f" and not np.isfinite(values).any():
            return np.zeros((*size_of(window), 3), np.uint8)
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
            As Pillow's bilinear filter reduces a picture, which averages. A window of many values
            is first averaged over small squares of whole pixels.
        """
        height, width = size_of(window)
        wanted = math.ceil(height * width / _MAX_READ_VALUES)
        scale = min(height // size_hw[0], width // size_hw[1])
        is_small = wanted <= 1 or scale < 4
        small = self.rgb(window) if is_small else self._averaged(window, scale // 2)
        picture = Image.fromarray(small)
        return np.asarray(picture.resize(size_hw[::-1], Image.Resampling.BILINEAR))

    def _averaged(self, window: Window, factor: int) -> npt.NDArray[np.uint8]:
        """Return a window averaged over squares of pixels, whose last row and column may be cut."""
        (rows, columns), (height, width) = window, size_of(window)
        small = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
        step = max(1, _MAX_READ_VALUES // (width * factor))
        for first in range(0, len(small), step):
            last = min(first + step, len(small))
            start, stop = rows.start + first * factor, min(rows.start + last * factor, rows.stop)
            strip = self.rgb((slice(start, stop), columns))
            beyond = ((0, -len(strip) % factor), (0, -width % factor), (0, 0))
            squares = np.pad(strip, beyond, mode="edge").reshape(
                last - first, factor, -1, factor, 3
            )
            small[first:last] = np.rint(squares.mean(axis=(1, 3), dtype=np.float32))
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
