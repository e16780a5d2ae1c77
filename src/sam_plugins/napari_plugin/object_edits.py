"""What can be done to committed objects, found by a position in the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from sam_plugins.napari_plugin.belonging import lies_on
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.jobs import Job, start_job
from sam_plugins.napari_plugin.notifications import show_info
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
            before, has_work = segmenter.objects, segmenter.has_work
            segmenter.use_labels(layer)
            if has_work:
                show_info(
                    f"Objects are written to {layer.name!r} from now on; undo (Ctrl-Z) leads back "
                    f"to {before.name!r} and the masks that are open there"
                )
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
        label, plane = self._object_at(position)
        return self._where_it_is("delete", [label], plane, only_here=only_here)

    def fill_at(self, position: Position, *, only_here: bool = False) -> Job | None:
        """Fill the holes that the object at a position has in each slice of its stack.

        What is open in a slice is no hole there, even if it is closed all around in the volume; and
        what is closed in a slice is filled.

        Parameters
        ----------
        position : sequence of float
        only_here : bool
            Whether the other slices stay as they are.

        Returns
        -------
        Job or None
            As :meth:`delete_at` does.
        """
        label, plane = self._object_at(position)
        return self._where_it_is("fill", [label], plane, only_here=only_here)

    def merge_at(self, positions: Sequence[Position]) -> Job | None:
        """Give the objects at some positions the number of the first one, in all of their stack.

        Returns
        -------
        Job or None
            As :meth:`delete_at` does.

        Raises
        ------
        NothingThereError
            If they are fewer than two.
        """
        found = [self._object_at(position) for position in positions]
        labels = list(dict.fromkeys(label for label, _ in found))
        if len(labels) < 2:
            raise NothingThereError(
                f"merging needs two objects or more, got {len(labels)}: click on each of them, and "
                "merge then"
            )
        return self._where_it_is("merge", labels, found[0][1])

    def _where_it_is(
        self,
        what: Literal["delete", "fill", "merge"],
        labels: list[int],
        plane: Plane,
        *,
        only_here: bool = False,
    ) -> Job | None:
        """Do something to objects in all slices that have some of them, once these are known."""
        session = self._segmenter.session

        def do(planes: list[Plane]) -> None:
            if self._segmenter.session is not session:
                return
            if what == "merge":
                session.merge(labels, planes)
            elif what == "fill":
                session.fill(labels[0], planes)
            else:
                session.delete(labels[0], planes)

        planes = [plane] if only_here else self._slices(plane)
        data = self._segmenter.objects.data
        if len(planes) == 1 or (isinstance(data, np.ndarray) and data.nbytes <= _SEARCHED_AT_ONCE):
            do(planes_with(labels, planes, session.canvas.read))
            return None
        which = " and ".join(map(str, labels))
        return start_job(
            planes_with,
            labels,
            planes,
            session.canvas.read,
            title=f"Looking for object {which} in {len(planes)} slices",
            owner=self._owner,
            on_result=do,
        )

    def split_at(self, positions: Sequence[Position]) -> tuple[int, ...]:
        """Split an object in the slice that is seen; the other slices stay as they are.

        It is split into its pieces, or between two positions or more that lie in it.
        """
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
        image, channel_axis = segmenter.image, segmenter.viewpoint.channel_axis
        elsewhere: Labels | None = None
        for layer in reversed(segmenter.viewer.layers):
            if not isinstance(layer, Labels) or not layer.visible or layer in segmenter.view.layers:
                continue
            if layer.get_value(position, world=True):
                if lies_on(layer, image, channel_axis):
                    return layer
                elsewhere = elsewhere or layer
        if elsewhere is not None:
            raise NothingThereError(
                f"the labels of {elsewhere.name!r} do not lie on the pixels of {image.name!r}; "
                "give the layer the shape, scale and translation of the image"
            )
        raise NothingThereError("there is no object here; click on one of a labels layer")


def planes_with(
    labels: Sequence[int],
    planes: Sequence[Plane],
    read: Callable[[Plane], LabelArray],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> list[Plane]:
    """Return the planes that have pixels of objects.

    Parameters
    ----------
    labels : sequence of int
    planes : sequence of Plane
    read : callable
        Returns the labels of a plane.
    progress : callable
        Told of planes done and planes in all.
    """
    found = []
    for done, plane in enumerate(planes):
        progress(done, len(planes))
        if np.isin(read(plane), labels).any():
            found.append(plane)
    progress(len(planes), len(planes))
    return found
