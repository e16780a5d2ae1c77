"""Which labels layer belongs to which image: by a note in the layer, and by where both lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.layers import KEY, Role, role_of, source_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_LARGEST_SHIFT = 0.01
"""Of a voxel's shortest side: labels that lie farther off lie elsewhere."""
_MIXED = ("additive", "minimum", "multiplicative")


def owner_of(viewer: ViewerModel, layer: Labels) -> Image | None:
    """Return the image of a viewer that labels are bound to, None where it is not there."""
    from napari.layers import Image

    known = _note(layer).get("id")
    images = (one for one in viewer.layers if isinstance(one, Image))
    return next((one for one in images if str(one.unique_id) == known), None)


def labels_of(
    viewer: ViewerModel, role: Role, image: Image, channel_axis: int | None = None
) -> Labels | None:
    """Return the labels layer of a role that an image has, None for none.

    It is the topmost one that is bound to the image. Otherwise one that lies just where the image
    does, and is bound to nothing that is still there, or to another layer of the same picture,
    such as another channel of it. At last one of a session file that was about these pixels.

    Parameters
    ----------
    viewer : ViewerModel
    role : str
    image : Image
    channel_axis : int, optional
        Of the image.
    """
    source = source_of(image, channel_axis)
    fitting = [
        layer
        for layer in reversed(viewer.layers)
        if role_of(layer) == role and tuple(layer.data.shape) == source.shape
    ]
    for layer in fitting:
        if _note(layer).get("id") == str(image.unique_id):
            return layer
    for layer in fitting:
        if _may_share(viewer, layer, image) and lies_on(layer, image, channel_axis):
            return layer
    for layer in fitting:
        digest = _note(layer).get("fingerprint")
        if digest is not None and digest == source.fingerprint():
            return layer
    return None


def lies_on(layer: Labels, image: Image, channel_axis: int | None = None) -> bool:
    """Return whether each voxel of labels lies on the one of an image that has its indices.

    Parameters
    ----------
    layer : Labels
        Of the shape that labels of this image have.
    image : Image
    channel_axis : int, optional
        Of the image.
    """
    shape = source_of(image, channel_axis).shape
    if tuple(layer.data.shape) != shape:
        return False
    corners = [np.zeros(len(shape)), *np.diag(np.asarray(shape, float))]
    there = np.array([layer.data_to_world(corner) for corner in corners])
    wanted = np.array(
        [image.data_to_world(corner) for corner in _in_image(corners, image, channel_axis)]
    )
    wanted = wanted[:, 1:] if channel_axis == 0 else wanted
    sides = np.linalg.norm(wanted[1:] - wanted[0], axis=1) / np.asarray(shape)
    return bool(np.abs(there - wanted).max() <= _LARGEST_SHIFT * sides.min())


def _in_image(
    corners: list[npt.NDArray[Any]], image: Image, channel_axis: int | None
) -> Iterator[npt.NDArray[Any]]:
    """Yield positions of the labels in the axes of the image."""
    for corner in corners:
        if channel_axis is None:
            yield corner
        elif channel_axis == 0:
            yield np.concatenate([[0.0], corner])
        else:  # one voxel is stretched over all channels
            count = int(image.data.shape[channel_axis])
            spread = corner.copy()
            spread[channel_axis] = corner[channel_axis] * count + (count - 1) / 2
            yield spread


def _may_share(viewer: ViewerModel, layer: Labels, image: Image) -> bool:
    """Return whether labels may be those of an image that they are not bound to."""
    owner = owner_of(viewer, layer)
    # Two files are two pictures, unless they are mixed like the channels of one.
    if owner is not None and {owner.blending, image.blending} <= set(_MIXED):
        return True
    before, now = _note(layer).get("source"), image.source.path
    return before is None or now is None or str(before) == str(now)


def _note(layer: Labels) -> dict[str, Any]:
    """Return what a layer says of its image."""
    note = layer.metadata.get(KEY)
    found = note.get("image") if isinstance(note, dict) else None
    return found if isinstance(found, dict) else {}
