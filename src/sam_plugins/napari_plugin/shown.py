"""The picture that the model sees of a sight, of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.napari_plugin.coordinates import REGION_SIDE, WHOLE_SIDE
from sam_plugins.napari_plugin.images import ImageSource, robust_limits, stack_limits
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.values import Sight

COLOURS = {"red": 0, "green": 1, "blue": 2}
BLACK_AND_WHITE = [(0.0, 255.0)] * 3
"""How what is shown already is shown again: as it is."""


def show_model(source: ImageSource, sight: Sight) -> npt.NDArray[np.uint8]:
    """Return the picture that the model sees.

    Parameters
    ----------
    source : ImageSource
    sight : Sight
        From :func:`~sam_plugins.napari_plugin.images.look_at`.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        Of as many pixels as the level has, but for regions that are much larger than the model's
        input: of these the mean of the pixels, read a few rows at a time.

    Raises
    ------
    UnusableImageError
        If there is no picture in it.
    """
    window = source.window(sight.plane, sight.region, sight.level)
    if max(window.shape) > WHOLE_SIDE:
        return _reduced(ShownPixels(source, sight))
    return _shown(source, sight, window)


class ShownPixels:
    """What the model sees of a sight, read by windows: an array of shape (H, W, 3), uint8.

    Parameters
    ----------
    source : ImageSource
    sight : Sight
        Rows and columns are those of its level.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, source: ImageSource, sight: Sight) -> None:
        self._source, self._sight = source, sight
        self._window = source.window(sight.plane, sight.region, sight.level)
        self.shape = (*self._window.shape, 3)

    def __getitem__(self, where: tuple[slice, ...]) -> npt.NDArray[np.uint8]:
        """Return a window, whose ends must be given."""
        rows, columns = where[:2]
        top, left = self._window.top, self._window.left
        window = Window(
            top + rows.start, left + columns.start, top + rows.stop, left + columns.stop
        )
        return _shown(self._source, self._sight, window)


def _reduced(pixels: ShownPixels) -> npt.NDArray[np.uint8]:
    """Return a large picture at the size that the model makes use of."""
    from sam_plugins.model.large.picture import LazyPicture

    height, width = pixels.shape[:2]
    scale = REGION_SIDE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    picture = LazyPicture(pixels, COLOURS, BLACK_AND_WHITE, 2)
    return picture.reduced((slice(0, height), slice(0, width)), size)


def _shown(source: ImageSource, sight: Sight, window: Window) -> npt.NDArray[np.uint8]:
    """Return a window of a level in the contrast and the channels of a sight."""
    from sam_plugins.model.inference.rgb import to_rgb

    pixels = source.take(sight.plane, window, sight.level)
    limits = None if sight.limits is None else list(sight.limits)
    if limits is None:
        of_stack = stack_limits(source, sight.channels)
        whole = Window(0, 0, *sight.plane.size_hw(source.shape))
        if of_stack is not None:
            limits = list(of_stack)
        elif window != source.window(sight.plane, whole, sight.level):
            limits = list(robust_limits(source, sight.plane, sight.channels))
    if source.is_rgb:
        return to_rgb(pixels, limits=limits and limits[0], channel_axis=2)
    if source.channel_axis is None:
        return to_rgb(pixels, limits=limits and limits[0])
    channels: Any = dict(sight.channels)
    if len(channels) < len(sight.channels):
        raise UnusableImageError(
            f"each channel must have a colour of its own, got {sight.channels}"
        )
    return to_rgb(pixels, channels, limits, channel_axis=2)
