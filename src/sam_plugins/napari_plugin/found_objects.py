"""What was found in an image: shown in a layer, chosen from again, and added to the objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.automatic import Ground, Painted
from sam_plugins.napari_plugin.belonging import labels_of
from sam_plugins.napari_plugin.found_masks import FoundMasks
from sam_plugins.napari_plugin.label_arrays import empty_labels, largest_label
from sam_plugins.napari_plugin.layers import add_labels
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.stack import Stack

if TYPE_CHECKING:
    from napari.layers import Labels

    from sam_plugins.napari_plugin.viewpoint import Viewpoint


class FoundObjects:
    """The layer that shows what was found, and what it was found from.

    Parameters
    ----------
    viewpoint : Viewpoint
        Of the image.
    folder : Path
        Where masks are kept, to choose from again.
    stack : Stack, optional
        Where objects go through its slices.

    Attributes
    ----------
    grounds : list of Ground
        Parts of planes that were looked at, or are.
    masks : FoundMasks
    preview : Labels
    next_label : int
    """

    def __init__(self, viewpoint: Viewpoint, folder: Path, stack: Stack | None = None) -> None:
        self.image = viewpoint.image
        self.stack = stack
        self.grounds: list[Ground] = []
        self.masks = FoundMasks(folder)
        self.next_label = 1
        self.is_complete = False
        self._viewer = viewpoint.viewer
        self._channel_axis = viewpoint.channel_axis
        self._shape = viewpoint.source.shape
        self.preview = self._empty_preview()

    def _empty_preview(self) -> Labels:
        """Return the layer that shows what was found, empty."""
        layer = labels_of(self._viewer, "automatic", self.image, self._channel_axis)
        if layer is None:
            return add_labels(
                self._viewer,
                self.image,
                "automatic",
                channel_axis=self._channel_axis,
                name=f"{self.image.name} (automatic)",
                opacity=0.6,
            )
        if isinstance(layer.data, np.ndarray):
            layer.data[...] = 0
            layer.refresh()
        else:
            layer.data = empty_labels(self._shape)
        return layer

    @property
    def is_shown(self) -> bool:
        """Whether the layer is still there."""
        return self.preview in self._viewer.layers

    @property
    def count(self) -> int:
        """Number of objects that are shown."""
        return self.next_label - 1

    @property
    def tiles_done(self) -> int:
        """Number of pictures that the model was shown."""
        return sum(len(ground.masks) for ground in self.grounds)

    def show(self, painted: Painted) -> None:
        """Write objects into the layer, in the place of what was found there before."""
        ground, labels = painted.ground, painted.labels
        if ground not in self.grounds:
            self.grounds.append(ground)
        if painted.is_joined:
            self.next_label = painted.count + 1
        else:
            labels = np.where(labels > 0, labels + self.next_label - 1, 0)
            self.next_label += painted.count
        self._put(ground, painted.window, labels)

    def _put(self, ground: Ground, window: Window, labels: npt.NDArray[np.int64]) -> None:
        """Write labels; in regions that were looked at before, only where nothing is."""
        data = self.preview.data
        there = ground.plane.take(data, window)
        values = labels.astype(there.dtype)
        for earlier in self.grounds[: self.grounds.index(ground)]:
            if earlier.plane == ground.plane:
                rows, columns = _shared(earlier.region, window)
                old = there[rows, columns]
                values[rows, columns] = np.where(old > 0, old, values[rows, columns])
        ground.plane.put(data, window, values)

    def count_linked(self) -> None:
        """Count what is there after slices were linked, whether or not it was all."""
        self.next_label = largest_label(self.preview.data) + 1
        self.preview.refresh()

    def close(self) -> None:
        """Remove the files; the masks of what is not complete stay, to go on from."""
        self.masks.forget(with_masks=self.is_complete)

    def objects_layer(self) -> Labels:
        """Return the layer that objects are added to, making one where there is none."""
        target = labels_of(self._viewer, "objects", self.image, self._channel_axis)
        if target is None:
            target = add_labels(
                self._viewer,
                self.image,
                "objects",
                channel_axis=self._channel_axis,
                name=f"{self.image.name} objects",
            )
        return target

    def forget(self) -> None:
        """Show nothing more: what was found is among the objects."""
        for plane, window in self.places():
            plane.put(self.preview.data, window, np.zeros(window.shape, np.uint32))
        self.preview.refresh()
        self.grounds.clear()
        self.next_label = 1
        self.close()

    def places(self) -> Iterator[tuple[Plane, Window]]:
        """Yield all parts of planes in which something may be shown."""
        if self.stack is not None:
            region = Window(0, 0, *self.stack.shape[1:3])
            for index in range(self.stack.shape[0]):
                yield self.stack.plane_at(index), region
        for ground in self.grounds:
            for core in ground.cores():
                yield ground.plane, core


def _shared(region: Window, window: Window) -> tuple[slice, slice]:
    """Return which rows and columns of a window lie in a region."""
    part = Window(
        region.top - window.top,
        region.left - window.left,
        region.bottom - window.top,
        region.right - window.left,
    ).within(window.shape)
    rows, columns = part.slices
    return rows, columns
