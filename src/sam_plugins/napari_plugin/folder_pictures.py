"""A picture of a folder as a layer shows it: planes, stacks and channels; read in a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.images import ImageSource, look_at
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.shown import show_model

if TYPE_CHECKING:
    from sam_plugins.model.io.opened import OpenImage, Picture

Progress = Callable[[int, int], None]

_LARGEST_READ = 1 << 28
"""Bytes of a Zarr image that are read at once; of larger ones only what is seen."""


@dataclass(frozen=True, eq=False)
class LayerPixels:
    """The pixels of an image in the order that a layer wants them.

    Parameters
    ----------
    pixels : array of shape ([C], ..., H, W, [3])
        NumPy, or Dask where the image stays on the disk. Channels come first, then the axes of a
        stack.
    is_rgb : bool
        Whether the last axis holds colours.
    channel_axis : int, optional
        0 where the image has channels.
    """

    pixels: Any
    is_rgb: bool = False
    channel_axis: int | None = None

    @property
    def source(self) -> ImageSource:
        """What the model is shown parts of."""
        return ImageSource([self.pixels], self.is_rgb, self.channel_axis)

    def middle_picture(self) -> npt.NDArray[np.uint8]:
        """Return what **Segment** shows to the model of the plane in the middle, (H, W, 3)."""
        source = self.source
        ndim = len(source.shape)
        middle = tuple((length - 1) // 2 for length in source.shape[:-2])
        plane = Plane((ndim - 2, ndim - 1), middle)
        height, width = plane.size_hw(source.shape)
        return show_model(source, look_at(source, plane, Window(0, 0, height, width)))


def read_layer(path: Path, progress: Progress = lambda done, total: None) -> LayerPixels:  # noqa: ARG005
    """Read an image with all its planes.

    Parameters
    ----------
    path : Path
    progress : callable
        Told of planes done and planes in all.

    Raises
    ------
    UnreadableImageError, UnusableImageError
        As from :func:`~sam_plugins.model.io.images.open_image`.
    MemoryLimitError
        If the stack does not fit into memory.
    """
    from sam_plugins.model.inference.memory import require_memory
    from sam_plugins.model.io.images import is_image_folder, open_image

    with open_image(path) as image:
        stack = {axis: length for axis, length in image.stack_axes.items() if length > 1}
        if not stack:
            return _layer_of(image.plane())
        shape, dtype = image.pixels.shape, np.dtype(image.pixels.dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if is_image_folder(path) and size > _LARGEST_READ:
            return _on_disk(image)
        require_memory(
            size,
            f"the stack {path.name}",
            lambda _: "save it as OME-Zarr, of which only what is seen is read",
        )
        return _read_planes(image, stack, progress)


def read_middle(path: Path) -> LayerPixels:
    """Read only the plane in the middle of an image."""
    from sam_plugins.model.io.images import open_image

    with open_image(path) as image:
        middle = {axis: (length - 1) // 2 for axis, length in image.stack_axes.items()}
        return _layer_of(image.plane(middle))


def _layer_of(picture: Picture) -> LayerPixels:
    """Return a single plane."""
    axis = picture.channel_axis
    return LayerPixels(picture.pixels, axis == 2, 0 if axis == 0 else None)


def _read_planes(image: OpenImage, stack: dict[str, int], progress: Progress) -> LayerPixels:
    """Read a stack plane by plane."""
    lengths = tuple(stack.values())
    total = int(np.prod(lengths))
    pixels: npt.NDArray[Any] = np.zeros(0)
    channel_axis, is_rgb = None, False
    for done, at in enumerate(np.ndindex(*lengths)):
        progress(done, total)
        one = _layer_of(image.plane(dict(zip(stack, at, strict=True))))
        if not done:
            channel_axis, is_rgb = one.channel_axis, one.is_rgb
            channels = one.pixels.shape[:1] if channel_axis == 0 else ()
            plane_shape = one.pixels.shape[len(channels) :]
            pixels = np.empty((*channels, *lengths, *plane_shape), one.pixels.dtype)
        if channel_axis is None:
            pixels[at] = one.pixels
        else:
            np.moveaxis(pixels, 0, len(lengths))[at] = one.pixels
    progress(total, total)
    return LayerPixels(pixels, is_rgb, channel_axis)


def _on_disk(image: OpenImage) -> LayerPixels:
    """Return a Zarr image whose pixels are read when they are looked at."""
    import dask.array as da

    axes, array = image.axes, da.from_zarr(image.pixels)
    single = tuple(
        index for index, axis in enumerate(axes) if array.shape[index] == 1 and axis not in "YX"
    )
    array = array.squeeze(single)
    axes = "".join(axis for index, axis in enumerate(axes) if index not in single)
    ends = ("Y", "X", "S") if "S" in axes else ("Y", "X")
    begins = tuple(axis for axis in "C" if axis in axes)
    order = (*begins, *(axis for axis in axes if axis not in (*begins, *ends)), *ends)
    moved = array.transpose([axes.index(axis) for axis in order])
    return LayerPixels(moved, "S" in axes, 0 if begins else None)
