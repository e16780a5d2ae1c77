"""One plane of an opened image as an array of which only what is asked for is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.opened import OpenImage, Where, decoding, default_channels


class LazyPlane:
    """What :meth:`OpenImage.plane` returns, read window by window.

    Parameters
    ----------
    image : OpenImage
        Open for as long as the plane is read. A picture that lies turned in its file is read whole.
    where : int or mapping of axis letter to int, optional
        As for :meth:`OpenImage.plane`, whose errors are raised too.

    Attributes
    ----------
    pixels : array of shape (H, W), (H, W, S) or (C, H, W)
        Indexed with slices.
    channel_axis : int or None
        2 for the samples of a colour picture, 0 for channels that were recorded one by one.
    channel_names : tuple of str
        Names of the channels where the file gives them.
    """

    def __init__(self, image: OpenImage, where: Where = None) -> None:
        self.pixels: SliceableArray
        if image.is_turned:
            whole = image.plane(where)
            self.pixels, self.channel_axis = whole.pixels, whole.channel_axis
            self.channel_names = whole.channel_names
            return
        view = _View(image, image.plane_index(where))
        self.pixels, self.channel_axis = view, view.channel_axis
        names = image.channel_names if self.channel_axis == 0 else ()
        self.channel_names = names if names and len(names) == view.shape[0] else ()

    @property
    def default_channels(self) -> tuple[int, ...] | None:
        """Channels to show when nobody chose, as for a whole plane."""
        return default_channels(self.channel_axis, self.pixels.shape)


class _View:
    """The axes Y and X of an image with its channels or samples; the rest are fixed."""

    def __init__(self, image: OpenImage, indices: dict[str, int]) -> None:
        self._image, self._indices = image, indices
        lengths = dict(zip(image.axes, image.pixels.shape, strict=True))
        self._beside = [axis for axis in "CYXS" if axis in lengths]
        self._first_channel = "C" in lengths and lengths["C"] == 1
        # What a pixel becomes: palettes add samples, inks and inverted greys change the type.
        pixel = self._read({"Y": slice(0, 1), "X": slice(0, 1)})
        self._is_many_samples = pixel.ndim == 3 and "C" not in lengths and pixel.shape[2] > 2
        size = (int(lengths["Y"]), int(lengths["X"]))
        self.dtype: np.dtype[Any] = pixel.dtype
        self.shape: tuple[int, ...] = size
        self.channel_axis: int | None = None
        if "C" in lengths and not self._first_channel:
            self.shape, self.channel_axis = (int(lengths["C"]), *size), 0
        elif self._is_many_samples:
            self.shape, self.channel_axis = (*size, int(pixel.shape[2])), 2

    def __getitem__(self, where: slice | tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a part, with a slice for each axis from the first one on."""
        parts = where if isinstance(where, tuple) else (where,)
        full = (*parts, *[slice(None)] * (len(self.shape) - len(parts)))
        if self.channel_axis == 0:
            return self._read({"Y": full[1], "X": full[2]})[full[0]]
        read = self._read({"Y": full[0], "X": full[1]})
        if self._first_channel:
            return np.asarray(read[0])
        if read.ndim == 3:
            return np.asarray(read[..., full[2] if self._is_many_samples else 0])
        return read

    def _read(self, window: dict[str, slice]) -> npt.NDArray[Any]:
        """Return a window with all of its channels or samples, as the picture means them."""
        chosen = {**self._indices, **window}
        index = tuple(chosen.get(axis, slice(None)) for axis in self._image.axes)
        kept = [axis for axis in self._image.axes if axis in self._beside]
        order = [kept.index(axis) for axis in self._beside]
        with decoding(self._image.path):
            stored = np.asarray(self._image.pixels[index]).transpose(order)
            return np.asarray(self._image.finish(stored))
