"""What people paint with napari's own tools: steps of the session, saved, its numbers taken."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.session.changes import LabelChange
from sam_plugins.napari_plugin.session.planes import LabelArray, Plane, Window
from sam_plugins.napari_plugin.session.session import Session

if TYPE_CHECKING:
    from napari.layers import Labels

    from sam_plugins.napari_plugin.layers import LayerCanvas

_LOOKS = 2


class BrushWatch:
    """Makes what is painted, filled or erased by hand in a session's layer a step of the session.

    Parameters
    ----------
    layer : Labels
    canvas : LayerCanvas
        Of the session; what it writes itself is known already.
    session : Session

    Notes
    -----
    napari tells of what is painted, and not of what its own undo and redo change. So it is compared
    what they would do next with what it was when we heard last: where it is something else, whoever
    saves the session looks at all that they can have changed. They look twice, since the pixels are
    written only after that.
    """

    def __init__(self, layer: Labels, canvas: LayerCanvas, session: Session) -> None:
        self._layer = layer
        self._canvas = canvas
        self._session = session
        self._known = _NextSteps.of(layer)
        self._looks_due = 0
        self._turn = threading.Lock()
        session.look_with(self._has_changed)
        layer.events.paint.connect(self._on_paint)
        layer.events.selected_label.connect(self._on_selected)

    def close(self) -> None:
        """Listen no more."""
        self._layer.events.paint.disconnect(self._on_paint)
        self._layer.events.selected_label.disconnect(self._on_selected)

    def hand_over(self, other: BrushWatch) -> None:
        """Let the next session of the same layer know what can be undone in it."""
        if other._layer is self._layer:
            other._session.watch(self._session.watched_planes)

    def _has_changed(self) -> bool:
        """Return whether napari may have undone or done again anything since this was asked."""
        with self._turn:
            now = _NextSteps.of(self._layer)
            if not now.is_same(self._known):
                self._known, self._looks_due = now, _LOOKS
            is_due = self._looks_due > 0
            self._looks_due -= is_due
        return is_due

    def _hear(self) -> None:
        """Take note of what napari would undo next, now that it tells of it."""
        with self._turn:
            now = _NextSteps.of(self._layer)
            if not now.follows(self._known):
                self._looks_due = _LOOKS
            self._known = now

    def _on_selected(self) -> None:
        """Keep the number free that somebody is about to paint with."""
        self._session.reserve_labels(int(self._layer.selected_label))

    def _on_paint(self, event: Any) -> None:  # noqa: ANN401
        """Take note of a stroke, whose pixels may be written only after this."""
        self._hear()
        if self._canvas.written is not None:
            self._session.watch([self._canvas.written])
            return
        edits = [_Edit.of(edit, self._layer.data.shape) for edit in event.value]
        changes = changes_of(edits, self._layer.data)
        self._session.watch(change.plane for change in changes)
        largest = max(int(np.max(edit.new)) for edit in edits)
        self._session.reserve_labels(max(largest, int(self._layer.selected_label)))
        self._session.note_written("paint", changes)


@dataclass(frozen=True, eq=False)
class _NextSteps:
    """What the undo and the redo of napari's tools would do next.

    Parameters
    ----------
    about : tuple
        The labels and both queues; each may be replaced.
    undone, undone_before : object
        What would be undone next, and after it; None for nothing.
    done_again : object
        What would be done again next.
    """

    about: tuple[Any, ...]
    undone: Any
    undone_before: Any
    done_again: Any

    @classmethod
    def of(cls, layer: Labels) -> _NextSteps:
        """Return those of a layer; where napari has none that we know, each time others."""
        # There is no public way to hear of what was undone.
        done = getattr(layer, "_undo_history", (object(),))
        undone = getattr(layer, "_redo_history", (object(),))
        return cls((layer.data, done, undone), _last(done), _last(done, 2), _last(undone))

    def is_same(self, other: _NextSteps) -> bool:
        """Return whether nothing was done, undone or done again."""
        return (
            self._is_about_same_as(other)
            and self.undone is other.undone
            and self.done_again is other.done_again
        )

    def follows(self, other: _NextSteps) -> bool:
        """Return whether at most one thing was done since, and nothing undone."""
        return self.is_same(other) or (
            self._is_about_same_as(other) and self.undone_before is other.undone
        )

    def _is_about_same_as(self, other: _NextSteps) -> bool:
        """Return whether both are about the same labels."""
        return all(one is two for one, two in zip(self.about, other.about, strict=True))


def _last(queue: Sequence[Any], number: int = 1) -> Any:  # noqa: ANN401
    """Return the last but some of a queue that another thread may change; None if there is none."""
    try:
        return queue[-number]
    except IndexError:
        return None


def planes_of(indices: Sequence[Sequence[int]]) -> list[Plane]:
    """Return parallel planes that hold some pixels: one where they lie in one.

    Parameters
    ----------
    indices : sequence of sequence of int
        Which indices they have on each axis.

    Examples
    --------
    >>> planes_of([[3], range(5), range(7)])
    [Plane(axes=(1, 2), at=(3,))]
    >>> planes_of([range(5), [3], range(7)])
    [Plane(axes=(0, 2), at=(3,))]
    """
    axes = range(len(indices))
    lengths = [len(one) for one in indices]
    # The last two axes are the picture in most arrays, so they win where nothing tells.
    rows, columns = sorted(sorted(axes, key=lambda axis: (lengths[axis] > 1, axis))[-2:])
    others = [indices[axis] for axis in axes if axis not in (rows, columns)]
    return [Plane((rows, columns), tuple(at)) for at in product(*others)]


@dataclass(frozen=True, eq=False)
class _Edit:
    """Pixels that got another number: a box with a mask, or an index array for each axis.

    Parameters
    ----------
    where : tuple of slice, or of ndarray of shape (N,)
        One for each axis of the labels.
    mask : ndarray of bool, optional
        Of a box; without it all of it.
    old, new : array of integer, or one number
    """

    where: tuple[Any, ...]
    mask: npt.NDArray[np.bool_] | None
    old: Any
    new: Any

    @classmethod
    def of(cls, edit: Any, shape: Sequence[int]) -> _Edit:  # noqa: ANN401
        """Return an edit of napari's history."""
        if not hasattr(edit, "slice_key"):
            return cls(tuple(edit[0]), None, edit[1], edit[2])
        box = (slice(*one.indices(n)) for one, n in zip(edit.slice_key, shape, strict=True))
        return cls(tuple(box), edit.mask, edit.old_values, edit.new_value)

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first index and the one after the last on each axis."""
        return [
            (one.start, one.stop)
            if isinstance(one, slice)
            else (int(np.min(one)), int(np.max(one)) + 1)
            for one in self.where
        ]

    def put(self, values: Any, labels: LabelArray, corner: Sequence[int]) -> None:  # noqa: ANN401
        """Write old or new values into a part of the labels that begins at a corner."""
        where = tuple(
            slice(one.start - low, one.stop - low) if isinstance(one, slice) else one - low
            for one, low in zip(self.where, corner, strict=True)
        )
        if self.mask is None:
            labels[where] = values
        else:
            labels[where][self.mask] = values


def changes_of(edits: Sequence[_Edit], labels: Any) -> list[LabelChange]:  # noqa: ANN401
    """Return what edits change, plane by plane, whether or not they are written yet.

    Parameters
    ----------
    edits : sequence
        In their order.
    labels : array of integer
        All of them; only the box around the edits is read.
    """
    bounds = [edit.bounds for edit in edits]
    low = [min(start for start, _ in axis) for axis in zip(*bounds, strict=True)]
    high = [max(stop for _, stop in axis) for axis in zip(*bounds, strict=True)]
    before = np.array(labels[tuple(map(slice, low, high))])
    after = before.copy()
    for edit in reversed(edits):
        edit.put(edit.old, before, low)
    for edit in edits:
        edit.put(edit.new, after, low)
    found = []
    for plane in planes_of([range(*ends) for ends in zip(low, high, strict=True)]):
        rows, columns = plane.axes
        window = Window(low[rows], low[columns], high[rows], high[columns])
        begins = (low[axis] for axis in plane.other_axes)
        part = Plane(plane.axes, tuple(a - b for a, b in zip(plane.at, begins, strict=True)))
        found.append(LabelChange.between(plane, window, part.take(before), part.take(after)))
    return [change for change in found if change is not None]
