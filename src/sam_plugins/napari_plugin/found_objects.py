"""What was found in an image: shown in a layer, chosen from again, and added to the objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.automatic import Found, paint_into
from sam_plugins.napari_plugin.label_arrays import empty_labels, largest_label
from sam_plugins.napari_plugin.layers import LayerCanvas, add_labels, find_layer
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.stack import Stack

if TYPE_CHECKING:
    from napari.layers import Labels

    from sam_plugins.napari_plugin.viewpoint import Viewpoint

Labelled = tuple[Found, npt.NDArray[np.int32]]


class FoundObjects:
    """The layer that shows what was found, and what it was found from.

    Parameters
    ----------
    viewpoint : Viewpoint
        Of the image.
    stack : Stack, optional
        Where objects go through its slices.

    Attributes
    ----------
    found : list of Found
        Tiles that were looked at, to choose from again.
    preview : Labels
    next_label : int
    """

    def __init__(self, viewpoint: Viewpoint, stack: Stack | None = None) -> None:
        self.image = viewpoint.image
        self.stack = stack
        self.found: list[Found] = []
        self.next_label = 1
        self._viewer = viewpoint.viewer
        self._channel_axis = viewpoint.channel_axis
        self._shape = viewpoint.source.shape
        self.preview = self._empty_preview()

    def _empty_preview(self) -> Labels:
        """Return the layer that shows what was found, empty."""
        layer = find_layer(self._viewer, "automatic", self._shape)
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

    def show(self, labelled: Labelled) -> None:
        """Write the objects of one more tile into the layer."""
        found, labels = labelled
        self.next_label = paint_into(
            self.preview.data, found.sight.plane, found.sight.region, labels, self.next_label
        )
        self.preview.refresh()

    def show_again(self, labelled: Sequence[Labelled]) -> None:
        """Show another choice from all tiles at once."""
        for found, _ in labelled:
            self._wipe(found.sight.plane, found.sight.region)
        self.next_label = 1
        for found, labels in labelled:
            self.next_label = paint_into(
                self.preview.data, found.sight.plane, found.sight.region, labels, self.next_label
            )
        self.preview.refresh()

    def count_linked(self) -> None:
        """Count what is there after slices were linked, whether or not it was all."""
        self.next_label = largest_label(self.preview.data) + 1
        self.preview.refresh()

    def add_to_objects(self) -> int:
        """Write what is shown into the objects, where nothing is yet; return how many came in.

        Objects of which older ones cover half are those, found again, and are left out.
        """
        target = find_layer(self._viewer, "objects", self._shape)
        if target is None:
            target = add_labels(
                self._viewer,
                self.image,
                "objects",
                channel_axis=self._channel_axis,
                name=f"{self.image.name} objects",
            )
        canvas = LayerCanvas(self._viewer, target)
        highest = largest_label(target.data)
        with canvas.together():
            if self.stack is None:
                count = self._add_tiles(canvas, highest + 1)
            else:
                count = self._add_linked(self.stack, canvas, highest)
        self.preview.refresh()
        self.found.clear()
        self.next_label = 1
        return count

    def _add_tiles(self, canvas: LayerCanvas, first: int) -> int:
        """Write the objects of all tiles, each tile's for themselves."""
        number = first
        for found in self.found:
            plane, region = found.sight.plane, found.sight.region
            shown = np.asarray(plane.take(self.preview.data, region)).astype(np.int32)
            merged = canvas.read(plane, region)
            shown[~_is_fresh(*_counts(shown, merged))[shown]] = 0
            whole = Window(0, 0, *region.shape)
            number = paint_into(merged, Plane(), whole, _compact(shown), number)
            canvas.write(plane, region, merged)
            self._wipe(plane, region)
        return number - first

    def _add_linked(self, stack: Stack, canvas: LayerCanvas, highest: int) -> int:
        """Write objects that go through slices, each with one number."""
        region = Window(0, 0, *stack.shape[1:3])
        planes = [stack.plane_at(index) for index in range(stack.shape[0])]
        length = self.next_label
        covered: npt.NDArray[np.int64] = np.zeros(length, np.int64)
        sizes: npt.NDArray[np.int64] = np.zeros(length, np.int64)
        for plane in planes:
            counts = _counts(np.asarray(plane.take(self.preview.data)), canvas.read(plane), length)
            covered, sizes = covered + counts[0], sizes + counts[1]
        is_fresh = _is_fresh(covered, sizes)
        seen: set[int] = set()
        for plane in planes:
            shown = np.asarray(plane.take(self.preview.data)).astype(np.int64)
            there = canvas.read(plane)
            free = (there == 0) & is_fresh[shown]
            seen.update(np.unique(shown[free]).tolist())
            merged = np.where(free, shown + highest, there).astype(there.dtype)
            canvas.write(plane, region, merged)
            self._wipe(plane, region)
        return len(seen)

    def _wipe(self, plane: Plane, region: Window) -> None:
        """Show nothing in a region."""
        plane.put(self.preview.data, region, np.zeros(region.shape, np.uint32))


def _counts(
    shown: npt.NDArray[Any], there: npt.NDArray[Any], length: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many pixels of each object older ones cover, and how many it has."""
    covered = np.bincount(shown[there > 0], minlength=max(length, int(shown.max(initial=0)) + 1))
    return covered, np.bincount(shown.ravel(), minlength=len(covered))


def _is_fresh(
    covered: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which objects are no older ones found again: less than half of them is covered."""
    is_fresh: npt.NDArray[np.bool_] = 2 * covered < sizes
    is_fresh[0] = False
    return is_fresh


def _compact(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return labels numbered from 1."""
    values, compact = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    del values
    numbered: npt.NDArray[np.int32] = compact[:-1].reshape(labels.shape).astype(np.int32)
    return numbered
