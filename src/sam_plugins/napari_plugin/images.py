"""From an image layer to the picture that the model sees: read only what is needed of it.

An image may be a NumPy array or one on a disk (Dask, Zarr), one level or a pyramid, colour
(``rgb``), and may have an axis of channels among its others. A *plane* is always one of the labels.
They have the axes of the image, but not a first one that holds channels; another one of channels
has length 1. (napari aligns layers at their last axes, so that only the first can be left out.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.napari_plugin.coordinates import REGION_SIDE
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Sight

Contrast = Literal["robust", "layer"]
CONTRASTS: tuple[Contrast, ...] = ("robust", "layer")
Channels = tuple[tuple[str, int], ...]
Limits = tuple[tuple[float, float], ...]

_SAMPLED_SIDE = 1024
_SAMPLED_VALUES = 1 << 21
_SAMPLED_PLANES = 12
_SAMPLED_WINDOW = 512
_FINGERPRINT_SIDE = 256


@dataclass(frozen=True, eq=False)
class ImageSource:
    """The data of an image layer, whatever they are kept in.

    Parameters
    ----------
    levels : sequence of arrays
        The largest first; one for an image without a pyramid.
    is_rgb : bool
        Whether the last axis holds colours.
    channel_axis : int, optional
        Axis of the channels.

    Raises
    ------
    UnusableImageError
        If there are not two axes besides.

    Examples
    --------
    >>> ImageSource([np.zeros((3, 5, 64, 64))], channel_axis=0).shape
    (5, 64, 64)
    """

    levels: Sequence[Any]
    is_rgb: bool = False
    channel_axis: int | None = None
    known_limits: dict[tuple[Plane | None, Channels], Limits] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Check the axes."""
        if len(self.shape) < 2:
            raise UnusableImageError(
                f"an image must have rows and columns besides its channels, got the shape "
                f"{tuple(self.levels[0].shape)} with channel_axis {self.channel_axis}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis of the labels, of the largest level."""
        return self._shape_of(0)

    @property
    def channel_count(self) -> int:
        """Number of channels of the channel axis, 1 without one."""
        if self.channel_axis is None:
            return 1
        return int(self.levels[0].shape[self.channel_axis])

    def _shape_of(self, level: int) -> tuple[int, ...]:
        """Return the length of each axis of the labels that a level would have."""
        shape = tuple(int(length) for length in self.levels[level].shape)
        shape = shape[:-1] if self.is_rgb else shape
        if self.channel_axis == 0:
            return shape[1:]
        return tuple(1 if axis == self.channel_axis else n for axis, n in enumerate(shape))

    def level_for(self, plane: Plane, region: Window) -> int:
        """Return the smallest level that is still as fine as the model looks at a region."""
        factor = max(region.shape) / _target_side(region)
        full = plane.size_hw(self.shape)
        fitting = [
            level
            for level in range(len(self.levels))
            if max(full) / max(self._size_hw(plane, level)) <= factor * 1.01
        ]
        return max(fitting, default=0)

    def _size_hw(self, plane: Plane, level: int) -> tuple[int, int]:
        """Return rows and columns of a plane at a level."""
        shape = self._shape_of(level)
        return shape[plane.axes[0]], shape[plane.axes[1]]

    def read(self, plane: Plane, region: Window, level: int = 0) -> npt.NDArray[Any]:
        """Return a region of a plane, (H, W) or with channels last.

        Parameters
        ----------
        plane : Plane
        region : Window
            In pixels of the largest level.
        level : int
            Which level to read.
        """
        return self.take(plane, self.window(plane, region, level), level)

    def window(self, plane: Plane, region: Window, level: int) -> Window:
        """Return where a region of the largest level lies in another level."""
        full, size = plane.size_hw(self.shape), self._size_hw(plane, level)
        down, across = full[0] / size[0], full[1] / size[1]
        return Window(
            math.floor(region.top / down),
            math.floor(region.left / across),
            math.ceil(region.bottom / down),
            math.ceil(region.right / across),
        ).within(size)

    def take(self, plane: Plane, window: Window, level: int = 0, step: int = 1) -> npt.NDArray[Any]:
        """Return every n-th pixel of a window of a level, (H, W) or with channels last."""
        shape = self._shape_of(level)
        rows, columns = (slice(s.start, s.stop, step) for s in window.slices)
        # A pyramid may be smaller along the other axes, too.
        fixed = [n * s // f for n, s, f in zip(plane.at, *self._others(plane, shape), strict=True)]
        index: list[int | slice] = list(Plane(plane.axes, tuple(fixed)).index())
        index[plane.axes[0]], index[plane.axes[1]] = rows, columns
        if self.channel_axis == 0:
            index.insert(0, slice(None))
        elif self.channel_axis is not None:
            index[self.channel_axis] = slice(None)
        part = np.asarray(self.levels[level][tuple(index)])
        if self.channel_axis is not None:
            kept = [i for i, entry in enumerate(index) if isinstance(entry, slice)]
            part = np.moveaxis(part, kept.index(self.channel_axis), 2)
        return part.swapaxes(0, 1) if plane.axes[0] > plane.axes[1] else part

    def _others(self, plane: Plane, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """Return the lengths of the axes that a plane fixes, in a level and in the largest one."""
        axes = [axis for axis in range(len(shape)) if axis not in plane.axes]
        return [shape[axis] for axis in axes], [self.shape[axis] for axis in axes]

    def sample(self, plane: Plane) -> npt.NDArray[Any]:
        """Return pixels spread over a plane, for its contrast; the smallest level has enough."""
        level = len(self.levels) - 1
        height, width = self._size_hw(plane, level)
        step = max(1, max(height, width) // _SAMPLED_SIDE)
        return self.take(plane, Window(0, 0, height, width), level, step)

    @property
    def is_stack(self) -> bool:
        """Whether there are more than two axes that are longer than 1, without the channels."""
        axis = self.channel_axis or -1
        return sum(n > 1 for one, n in enumerate(self.shape) if one != axis) > 2

    @property
    def is_in_memory(self) -> bool:
        """Whether reading any pixel costs nothing."""
        return isinstance(self.levels[-1], np.ndarray)

    def sample_memory(self) -> npt.NDArray[Any]:
        """Return pixels all over a stack in memory, channels last."""
        pixels, axis = self.levels[-1], self.channel_axis
        step, ndim = 1, pixels.ndim - (axis is not None)
        while pixels.size / step**ndim > _SAMPLED_VALUES:
            step += 1
        where = tuple(slice(None, None, 1 if one == axis else step) for one in range(pixels.ndim))
        sample: npt.NDArray[Any] = pixels[where]
        return sample if axis is None else np.moveaxis(sample, axis, -1)

    def sample_disk(self) -> npt.NDArray[Any]:
        """Return pixels of planes spread over a stack on a disk, (N,) or (N, C)."""
        level = len(self.levels) - 1
        shape = self.shape
        rows = [axis for axis in range(len(shape)) if axis != (self.channel_axis or -1)][-2:]
        axes = (rows[0], rows[1])
        lengths = [length for axis, length in enumerate(shape) if axis not in axes]
        count = int(np.prod(lengths))
        planes = min(count, _SAMPLED_PLANES)
        chosen = (np.arange(planes) + 0.5) * count / planes
        size = self._size_hw(Plane(axes, (0,) * len(lengths)), level)
        parts = []
        for number in chosen.astype(int):
            plane = Plane(axes, tuple(int(at) for at in np.unravel_index(number, lengths)))
            for window in _sampled_windows(size):
                step = 1 if max(window.shape) < _SAMPLED_WINDOW else 2
                parts.append(self.take(plane, window, level, step))
        channels = () if self.channel_axis is None else (self.channel_count,)
        return np.concatenate([part.reshape(-1, *channels) for part in parts])

    def fingerprint(self) -> str:
        """Return a digest of pixels in the middle of the first plane."""
        ndim = len(self.shape)
        plane = Plane((ndim - 2, ndim - 1), (0,) * (ndim - 2))
        level = len(self.levels) - 1
        height, width = self._size_hw(plane, level)
        top, left = (max(0, (side - _FINGERPRINT_SIDE) // 2) for side in (height, width))
        window = Window(top, left, top + _FINGERPRINT_SIDE, left + _FINGERPRINT_SIDE)
        pixels = self.take(plane, window.within((height, width)), level, 1)
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16)
        digest.update(repr((self.shape, str(pixels.dtype), pixels.shape)).encode())
        return digest.hexdigest()


def _sampled_windows(size_hw: tuple[int, int]) -> list[Window]:
    """Return windows that stand for a plane: all of it, or of a large one a few, spread over it."""
    if max(size_hw) <= 2 * _SAMPLED_WINDOW:
        return [Window(0, 0, *size_hw)]
    height, width = size_hw
    corners = [
        np.linspace(0, max(0, length - _SAMPLED_WINDOW), 2 if length > _SAMPLED_WINDOW else 1)
        for length in size_hw
    ]
    windows = [
        Window(int(top), int(left), int(top) + _SAMPLED_WINDOW, int(left) + _SAMPLED_WINDOW)
        for top in corners[0]
        for left in corners[1]
    ]
    top, left = (max(0, (length - _SAMPLED_WINDOW) // 2) for length in (height, width))
    windows.append(Window(top, left, top + _SAMPLED_WINDOW, left + _SAMPLED_WINDOW))
    return [window.within(size_hw) for window in windows]


def _target_side(region: Window) -> int:
    """Return how many pixels of a region's longer side the model makes use of."""
    return min(max(region.shape), REGION_SIDE)


def look_at(
    source: ImageSource,
    plane: Plane,
    region: Window,
    *,
    contrast: Contrast = "robust",
    layer_limits: Sequence[tuple[float, float]] | None = None,
    channels: Channels = (),
) -> Sight:
    """Decide what the model is shown.

    Parameters
    ----------
    source : ImageSource
    plane : Plane
    region : Window
    contrast : {"robust", "layer"}
        Percentiles of the whole plane, or of the whole stack, so that an object looks alike in all
        of its slices; or the contrast limits of the layer. Those of a stack on a disk are left to
        :func:`~sam_plugins.napari_plugin.shown.show_model`, for reading takes a while.
    layer_limits : sequence of (float, float), optional
        Of the layer; one pair, or one for each channel.
    channels : tuple of (str, int)
        Colour and index of each channel to show; by default the first one to three.

    Returns
    -------
    Sight
    """
    if source.channel_axis is not None and not channels:
        colours = ("grey",) if source.channel_count == 1 else ("red", "green", "blue")
        count = min(source.channel_count, 3)
        channels = tuple((colours[index], index) for index in range(count))
    limits: Limits | None = None
    if contrast == "layer" and layer_limits:
        pairs = [(float(low), float(high)) for low, high in layer_limits]
        limits = tuple(pairs * max(1, len(channels)) if len(pairs) == 1 else pairs)
    elif contrast == "robust" and source.is_in_memory:
        limits = stack_limits(source, channels)
    return Sight(plane, region, source.level_for(plane, region), channels, limits)


def robust_limits(source: ImageSource, plane: Plane, channels: Channels) -> Limits:
    """Return the percentiles of a whole plane, for pictures of its parts; sampled once.

    8-bit values that need no stretching get 0 and 255, as :func:`~sam_plugins.to_rgb` has it.
    """
    known = source.known_limits.get((plane, channels))
    if known is not None:
        return known
    pixels = source.sample(plane)
    if source.is_rgb:
        groups = [pixels[..., :3]]
    elif channels:
        groups = [pixels[..., index] for _, index in channels]
    else:
        groups = [pixels]
    source.known_limits[plane, channels] = _percentiles(groups)
    return source.known_limits[plane, channels]


def stack_limits(source: ImageSource, channels: Channels) -> Limits | None:
    """Return the percentiles of a whole stack, sampled once; None for single pictures and colours.

    Of a stack in memory every n-th pixel is taken; of one on a disk some planes, or windows of
    them, for a strided sample would read every chunk of it.
    """
    if source.is_rgb or not source.is_stack:
        return None
    known = source.known_limits.get((None, channels))
    if known is None:
        sample = source.sample_memory() if source.is_in_memory else source.sample_disk()
        groups = [sample]
        if source.channel_axis is not None:
            groups = [sample[..., index] for _, index in channels]
        known = source.known_limits[None, channels] = _percentiles(groups)
    return known


def _percentiles(groups: Sequence[npt.NDArray[Any]]) -> Limits:
    """Return robust limits of each of some groups of pixels."""
    from sam_plugins.model.inference.rgb import DEFAULT_PERCENTILES, MIN_SPAN_8BIT

    found: list[tuple[float, float]] = []
    for group in groups:
        values = group[np.isfinite(group)]
        low, high = np.percentile(values, DEFAULT_PERCENTILES) if values.size else (0.0, 1.0)
        if group.dtype == np.uint8 and high - low >= MIN_SPAN_8BIT:
            low, high = 0.0, 255.0
        found.append((float(low), float(high) if high > low else float(low) + 1))
    return tuple(found)
