"""A stack of pictures as people have it: read slice by slice, along any of its three axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.rgb import Channels, Limits, contrast_limits, to_rgb
from sam_plugins.model.io.arrays import SliceableArray

AXES = ("z", "y", "x")
"""Names of the axes of a volume, in order."""

_MAX_SAMPLED_VALUES = 1 << 22
_SAMPLED_PLANES = 9


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume, or the frames of a film, that is read only where it is looked at.

    Parameters
    ----------
    array : array of shape (Z, Y, X), or with an axis of channels
        NumPy, Dask, Zarr, a memory map: anything with ``shape``, ``dtype`` and slicing. Numbers as
        :func:`~sam_plugins.to_rgb` takes them.
    voxel_size_zyx : (float, float, float)
        Lengths of a voxel along z, y and x, in one unit, whatever it is. Slices along y and x are
        shown to the model with square pixels, and thresholds allow for thick slices.
    channel_axis : int, optional
        Axis of the channels; needed where there are four axes.
    channels : int, sequence of int, or mapping of colour to int, optional
        Which channels to show, as in :func:`~sam_plugins.to_rgb`.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of the whole volume, so
        that the slices do not flicker. A sample of a large volume is read for them.

    Raises
    ------
    UnusableImageError
        If the array has another number of axes, is empty, or does not hold real numbers.
    ValueError
        If the voxel size is not positive, or ``channel_axis`` is no axis.

    Examples
    --------
    >>> volume = Volume(np.zeros((5, 40, 60), np.uint8), voxel_size_zyx=(2.0, 1.0, 1.0))
    >>> volume.plane_hw(0), volume.plane_hw(1), volume.shown_hw(1)
    ((40, 60), (5, 60), (10, 60))
    """

    array: SliceableArray
    voxel_size_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_axis: int | None = None
    channels: Channels | None = None
    limits: Limits | Sequence[Limits] | None = None

    def __post_init__(self) -> None:
        """Check the axes, the type and the voxel size."""
        if not hasattr(self.array, "shape") or not hasattr(self.array, "dtype"):
            object.__setattr__(self, "array", np.asarray(self.array))
        ndim = len(self.array.shape)
        expected = 3 if self.channel_axis is None else 4
        if ndim != expected:
            remedy = (
                "say which axis holds the channels (channel_axis)"
                if ndim == 4
                else "pass one channel and one time point of it"
            )
            raise UnusableImageError(
                f"expected a volume with {expected} axes, got shape {tuple(self.array.shape)}; "
                f"{remedy}"
            )
        if 0 in self.array.shape:
            raise UnusableImageError(f"expected voxels, got shape {tuple(self.array.shape)}")
        if np.dtype(self.array.dtype).kind not in "buif":
            raise UnusableImageError(f"expected real numbers, got {self.array.dtype}")
        if self.channel_axis is not None:
            if not -4 <= self.channel_axis < 4:
                raise ValueError(f"channel_axis must be -4 to 3, got {self.channel_axis}")
            object.__setattr__(self, "channel_axis", self.channel_axis % 4)
        sizes = tuple(float(size) for size in self.voxel_size_zyx)
        if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
            raise ValueError(
                f"voxel_size_zyx must be three positive lengths, got {self.voxel_size_zyx}"
            )
        object.__setattr__(self, "voxel_size_zyx", sizes)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels along z, y and x."""
        z, y, x = (int(self.array.shape[axis]) for axis in self._space)
        return z, y, x

    @property
    def _space(self) -> tuple[int, ...]:
        """The axes of the array that are z, y and x."""
        return tuple(axis for axis in range(len(self.array.shape)) if axis != self.channel_axis)

    def plane_hw(self, axis: int) -> SizeHW:
        """Return height and width of a slice along an axis: the other two axes, in order."""
        height, width = (n for i, n in enumerate(self.shape_zyx) if i != check_axis(axis))
        return height, width

    def pixel_size_hw(self, axis: int) -> tuple[float, float]:
        """Return the lengths of a pixel of a slice along an axis."""
        down, across = (n for i, n in enumerate(self.voxel_size_zyx) if i != check_axis(axis))
        return down, across

    def shown_hw(self, axis: int) -> SizeHW:
        """Return height and width of a slice as it is shown: square pixels, none left out."""
        height, width = self.plane_hw(axis)
        down, across = self.pixel_size_hw(axis)
        finest = min(down, across)
        return max(1, round(height * down / finest)), max(1, round(width * across / finest))

    def plane(self, axis: int, index: int) -> npt.NDArray[Any]:
        """Return the values of one slice.

        Parameters
        ----------
        axis : int
            0, 1 or 2: slices along z, y or x.
        index : int
            Which slice, from 0.

        Returns
        -------
        ndarray of shape (H, W) or (H, W, C)
            The other two axes, in order.

        Raises
        ------
        IndexError
            If there is no such slice.
        """
        length = self.shape_zyx[check_axis(axis)]
        if not 0 <= index < length:
            raise IndexError(f"slice must be 0 to {length - 1} along {AXES[axis]}, got {index}")
        where: list[int | slice] = [slice(None)] * len(self.array.shape)
        along = self._space[axis]
        where[along] = int(index)
        values = np.asarray(self.array[tuple(where)])
        if self.channel_axis is None:
            return values
        channels = self.channel_axis - (along < self.channel_axis)
        return np.moveaxis(values, channels, -1)

    def rgb(self, axis: int, index: int) -> npt.NDArray[np.uint8]:
        """Return what the model sees of one slice.

        Parameters and errors are those of :meth:`plane`.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8
            Of the size :meth:`shown_hw`, with the contrast of the whole volume.
        """
        plane = self.plane(axis, index)
        shown = to_rgb(
            plane,
            self.channels,
            self.contrast,
            channel_axis=None if self.channel_axis is None else 2,
        )
        height, width = self.shown_hw(axis)
        if shown.shape[:2] == (height, width):
            return shown
        resized = Image.fromarray(shown).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized)

    @cached_property
    def contrast(self) -> list[Limits] | Limits | Sequence[Limits]:
        """Values shown as black and as white, the same in all slices."""
        if self.limits is not None:
            return self.limits
        sample = self._sample()
        channels = 1 if self.channel_axis is None else sample.shape[-1]
        rows = sample.reshape(-1, 1, channels)
        if channels == 1:
            return contrast_limits(rows[..., 0], self.channels)
        return contrast_limits(rows, self.channels, channel_axis=2)

    def _sample(self) -> npt.NDArray[Any]:
        """Return all values of a small volume, and some planes of a large one, channels last."""
        if math.prod(self.array.shape) <= _MAX_SAMPLED_VALUES:
            values = np.asarray(self.array[(slice(None),) * len(self.array.shape)])
            return (
                values if self.channel_axis is None else np.moveaxis(values, self.channel_axis, -1)
            )
        length = self.shape_zyx[0]
        places = np.unique(np.linspace(0, length - 1, _SAMPLED_PLANES).round().astype(int))
        step = math.ceil(
            math.sqrt(math.prod(self.array.shape) / length * len(places) / _MAX_SAMPLED_VALUES)
        )
        planes = [self.plane(0, int(place))[::step, ::step] for place in places]
        return np.stack(planes)


def check_axis(axis: int) -> int:
    """Return an axis of a volume.

    Raises
    ------
    ValueError
        If it is none of 0, 1 and 2.
    """
    if axis not in (0, 1, 2):
        raise ValueError(f"axis must be 0, 1 or 2, for slices along z, y or x, got {axis!r}")
    return int(axis)
