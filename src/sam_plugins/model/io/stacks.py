"""An opened file as a stack of planes: one array, read where it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.opened import OpenImage, decoding


class StackArray:
    """The one stack in a file: axes (Z, Y, X), and channels or samples behind where there are any.

    A :class:`~sam_plugins.model.io.arrays.SliceableArray` that is indexed by a tuple.

    Parameters
    ----------
    image : OpenImage
        Stays open while this is used.

    Raises
    ------
    UnusableImageError
        If not exactly one axis beside rows, columns and channels is longer than 1.
    """

    def __init__(self, image: OpenImage) -> None:
        long_axes = [axis for axis, length in image.stack_axes.items() if length > 1]
        if len(long_axes) != 1:
            found = ", ".join(f"{axis} ({image.stack_axes[axis]})" for axis in long_axes) or "none"
            raise UnusableImageError(
                f"{image.path} must have one axis of slices, it has {found}; save one time point "
                "or position as its own file, or give the axes, such as axes='ZYX'"
            )
        self._image = image
        colours = [axis for axis in "CS" if axis in image.axes]
        self.axes = (long_axes[0], "Y", "X", *colours[:1])
        sizes = dict(zip(image.axes, image.pixels.shape, strict=True))
        self.shape = tuple(int(sizes[axis]) for axis in self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the values."""
        return np.dtype(self._image.pixels.dtype)

    @property
    def channel_axis(self) -> int | None:
        """3 where there are channels or samples."""
        return 3 if len(self.shape) == 4 else None

    def __getitem__(self, where: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Read a part, with the axes that were not given a number, in order."""
        wanted: dict[str, int | slice] = dict(zip(self.axes, where, strict=False))
        rest = {axis: slice(None) for axis in self.axes[len(where) :]}
        wanted |= rest
        index = tuple(wanted.get(axis, 0) for axis in self._image.axes)
        kept = [a for a, one in zip(self._image.axes, index, strict=True) if isinstance(one, slice)]
        with decoding(self._image.path):
            values = np.asarray(self._image.pixels[index])
        return values.transpose([kept.index(axis) for axis in self.axes if axis in kept])
