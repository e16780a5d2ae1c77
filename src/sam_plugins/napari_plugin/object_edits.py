"""What can be done to committed objects, found by a position in the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.session.editing import find_object
from sam_plugins.napari_plugin.session.planes import LabelArray, Plane, Window
from sam_plugins.napari_plugin.session.values import Draft, MaskPrompt
from sam_plugins.napari_plugin.stack import NoStackError, follow_axis
from sam_plugins.napari_plugin.viewpoint import Position

if TYPE_CHECKING:
    from napari.layers import Labels
    from qtpy.QtCore import QObject

    from sam_plugins.napari_plugin.segmenter import Segmenter

_SEARCHED_AT_ONCE = 1 << 26
"""Bytes of labels in memory through which an object is looked for without a thread."""


class ObjectEdits:
    """Changes the objects of a segmenter's layer; used on the GUI thread.

    Parameters
    ----------
    segmenter : Segmenter
    owner : QObject, optional
        Jobs end with it.
    """

    def __init__(self, segmenter: Segmenter, owner: QObject | None = None) -> None:
        self._segmenter = segmenter
        self._owner = owner

    def label_at(self, position: Position) -> int:
        """Return the label of the objects layer at a position, 0 for none."""
        viewpoint = self._segmenter.viewpoint
        found = viewpoint.place_inside(position)
        if found is None:
            return 0
        row, column = int(found.y + 0.5), int(found.x + 0.5)
        size_hw = viewpoint.size_hw(found.plane)
        row, column = min(row, size_hw[0] - 1), min(column, size_hw[1] - 1)
        window = Window(row, column, row + 1, column + 1)
        return int(self._segmenter.session.canvas.read(found.plane, window)[0, 0])

    def edit_at(self, position: Position) -> Draft:
        """Make the object at a position the draft, whichever labels layer it is in.

        Raises
        ------
        NothingThereError
            If there is none.
        """
        segmenter = self._segmenter
        layer = self._labels_layer_at(position)
        if layer is not segmenter.objects:
            segmenter.use_labels(layer)
        label, _ = self._object_at(position)
        plane = segmenter.viewpoint.place(position).plane
        mask = find_object(segmenter.session.canvas.read(plane), label)
        sight = segmenter.viewpoint.sight_of(plane, [MaskPrompt(mask)])
        return segmenter.session.edit(label, sight)

    def delete_at(self, position: Position, *, only_here: bool = False) -> Job | None:
        """Remove the object at a position, from all slices of its stack.

        Parameters
        ----------
        position : sequence of float
        only_here : bool
            Whether it stays in the other slices.

        Returns
        -------
        Job or None
            The search for its slices, where labels are large; it deletes when it ends.
        """
        session = self._segmenter.session
        label, plane = self._object_at(position)
        planes = [plane] if only_here else self._slices(plane)
        data = self._segmenter.objects.data
        if len(planes) == 1 or (isinstance(data, np.ndarray) and data.nbytes <= _SEARCHED_AT_ONCE):
            session.delete(label, planes_with(label, planes, session.canvas.read))
            return None

        def delete(found: list[Plane]) -> None:
            if self._segmenter.session is session:
                session.delete(label, found)

        return start_job(
            planes_with,
            label,
            planes,
            session.canvas.read,
            title=f"Looking for object {label} in {len(planes)} slices",
            owner=self._owner,
            on_result=delete,
        )

    def fill_at(self, position: Position) -> None:
        """Fill the holes of the object at a position."""
        self._segmenter.session.fill(*self._object_at(position))

    def merge_at(self, positions: Sequence[Position]) -> int:
        """Give the objects at some positions the number of the first one, and return it."""
        found = [self._object_at(position) for position in positions]
        return self._segmenter.session.merge([label for label, _ in found], found[0][1])

    def split_at(self, positions: Sequence[Position]) -> tuple[int, ...]:
        """Split an object: into its pieces, or between two positions or more that lie in it."""
        label, plane = self._object_at(positions[0])
        seeds = [self._segmenter.viewpoint.place(position) for position in positions]
        seeds_xy = [(seed.x, seed.y) for seed in seeds] if len(seeds) > 1 else []
        return self._segmenter.session.split(label, plane, seeds_xy)

    def _slices(self, plane: Plane) -> list[Plane]:
        """Return a plane and the others of its stack."""
        source = self._segmenter.viewpoint.source
        try:
            axis = follow_axis(source, plane, self._segmenter.through.params.axis)
        except NoStackError:
            return [plane]
        return [plane.moved(axis, index) for index in range(source.shape[axis])]

    def _object_at(self, position: Position) -> tuple[int, Plane]:
        """Return label and plane of the object at a position."""
        label = self.label_at(position)
        if not label:
            raise NothingThereError("there is no object here; click on one of the objects layer")
        return label, self._segmenter.viewpoint.place(position).plane

    def _labels_layer_at(self, position: Position) -> Labels:
        """Return the topmost labels layer that has an object at a position."""
        from napari.layers import Labels

        segmenter = self._segmenter
        shape, drawn = segmenter.viewpoint.source.shape, segmenter.view.layers
        for layer in reversed(segmenter.viewer.layers):
            if not isinstance(layer, Labels) or not layer.visible or layer in drawn:
                continue
            if tuple(layer.data.shape) == shape and layer.get_value(position, world=True):
                return layer
        raise NothingThereError("there is no object here; click on one of a labels layer")


def planes_with(
    label: int,
    planes: Sequence[Plane],
    read: Callable[[Plane], LabelArray],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> list[Plane]:
    """Return the planes that have pixels of an object.

    Parameters
    ----------
    label : int
    planes : sequence of Plane
    read : callable
        Returns the labels of a plane.
    progress : callable
        Told of planes done and planes in all.
    """
    found = []
    for done, plane in enumerate(planes):
        progress(done, len(planes))
        if (read(plane) == label).any():
            found.append(plane)
    progress(len(planes), len(planes))
    return found
