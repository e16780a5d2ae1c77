"""An opened file as a stack of planes: one array, read where it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.opened import OpenImage, decoding


class StackArray:
    """The one stack in a file: axes (Z, Y, X), and channels or samples behind where there are any.

    Values are those of :meth:`OpenImage.plane`: palettes became colours, greys whose 0 means white
    were inverted, and planes that lie turned in the file are upright.

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
        self._along = long_axes[0]
        self._beside = [axis for axis in "CYXS" if axis in image.axes]
        self._is_as_stored = False
        # What a pixel becomes: palettes add samples, inks and inverted greys change the type, and
        # what lies turned has other sides.
        sample = self._whole(0) if image.is_turned else self._pixel()
        sizes = dict(zip(image.axes, image.pixels.shape, strict=True))
        height, width = sample.shape[:2] if image.is_turned else (sizes["Y"], sizes["X"])
        colours = ("C" if "C" in image.axes else "S",) if sample.ndim == 3 else ()
        self.axes = (self._along, "Y", "X", *colours)
        self.shape = (int(sizes[self._along]), int(height), int(width), *sample.shape[2:])
        self.dtype: np.dtype[Any] = sample.dtype

    @property
    def channel_axis(self) -> int | None:
        """3 where there are channels or samples."""
        return 3 if len(self.shape) == 4 else None

    def __getitem__(self, where: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Read a part, with the axes that were not given a number, in order."""
        full = (*where, *[slice(None)] * (len(self.shape) - len(where)))
        # One row is a range of one: planes are finished as planes.
        ranges = [one if isinstance(one, slice) else slice(one, one + 1 or None) for one in full]
        read = self._read(ranges[0], ranges[1], ranges[2])
        inside = tuple(0 if not isinstance(one, slice) else slice(None) for one in full[:3])
        return np.asarray(read[(*inside, *full[3:])])

    def _read(self, which: slice, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return windows of some planes, (Z, h, w) or (Z, h, w, C)."""
        indices = range(*which.indices(self.shape[0]))
        if not indices:
            empty = np.empty((0, *self.shape[1:]), self.dtype)
            return np.asarray(empty[:, rows, columns])
        if self._image.is_turned:
            return np.stack([self._whole(index)[rows, columns] for index in indices])
        stored = self._stored(which, rows, columns)
        if self._is_as_stored:
            return self._channels_last(stored, leading=1)
        with decoding(self._image.path):
            return np.stack([self._channels_last(self._image.finish(one)) for one in stored])

    def _whole(self, index: int) -> npt.NDArray[Any]:
        """Return a plane, (H, W) or (H, W, C)."""
        stored = self._stored(slice(index, index + 1), slice(None), slice(None))
        with decoding(self._image.path):
            return self._channels_last(self._image.finish(stored[0]))

    def _pixel(self) -> npt.NDArray[Any]:
        """Return the first pixel, (1, 1) or (1, 1, C), and note whether planes are as stored."""
        stored = self._stored(slice(0, 1), slice(0, 1), slice(0, 1))[0]
        with decoding(self._image.path):
            finished = self._image.finish(stored)
        self._is_as_stored = finished is stored
        return self._channels_last(finished)

    def _stored(self, which: slice, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return windows of some planes as stored, with the axes in the order Z, C, Y, X, S."""
        chosen = {self._along: which, "Y": rows, "X": columns}
        rest = {axis: slice(None) for axis in self._beside}
        index = tuple((rest | chosen).get(axis, 0) for axis in self._image.axes)
        wanted = [self._along, *self._beside]
        kept = [axis for axis in self._image.axes if axis in wanted]
        with decoding(self._image.path):
            values = np.asarray(self._image.pixels[index])
        return values.transpose([kept.index(axis) for axis in wanted])

    def _channels_last(self, planes: npt.NDArray[Any], *, leading: int = 0) -> npt.NDArray[Any]:
        """Return a plane, or some along a leading axis, channels behind and grey without alpha."""
        if planes.ndim - leading == 2:
            return planes
        if "C" in self._beside:
            return np.moveaxis(planes[..., 0] if "S" in self._beside else planes, -3, -1)
        return planes if planes.shape[-1] > 2 else planes[..., 0]
