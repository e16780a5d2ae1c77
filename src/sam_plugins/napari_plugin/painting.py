"""What people paint with napari's own tools, or undo: it is saved, and its numbers stay taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_plugins.napari_plugin.session.planes import Plane
from sam_plugins.napari_plugin.session.session import Session

if TYPE_CHECKING:
    from napari.layers import Labels

    from sam_plugins.napari_plugin.layers import LayerCanvas


class BrushWatch:
    """Tells a session of what is painted, filled or erased by hand in its layer.

    Parameters
    ----------
    layer : Labels
    canvas : LayerCanvas
        Of the session; what it writes itself is known already.
    session : Session

    Notes
    -----
    napari tells of what is painted, and not of what its own undo and redo change: then the layer is
    only drawn again, as it is for many reasons. So the session is told to look at what was painted.
    """

    def __init__(self, layer: Labels, canvas: LayerCanvas, session: Session) -> None:
        self._layer = layer
        self._canvas = canvas
        self._session = session
        layer.events.paint.connect(self._on_paint)
        layer.events.selected_label.connect(self._on_selected)
        for drawn in self._drawn:
            drawn.connect(self._on_drawn)

    def close(self) -> None:
        """Listen no more."""
        self._layer.events.paint.disconnect(self._on_paint)
        self._layer.events.selected_label.disconnect(self._on_selected)
        for drawn in self._drawn:
            drawn.disconnect(self._on_drawn)

    def hand_over(self, other: BrushWatch) -> None:
        """Let the next session of the same layer know what can be undone in it."""
        if other._layer is self._layer:
            other._session.watch(self._session.watched_planes)

    @property
    def _drawn(self) -> tuple[Any, Any]:
        """The events of a layer that is drawn, all of it or a part."""
        return self._layer.events.set_data, self._layer.events.labels_update

    def _on_drawn(self) -> None:
        """Let whoever saves the session look for changes that nobody told of."""
        if self._canvas.written is None:
            self._session.suspect()

    def _on_selected(self) -> None:
        """Keep the number free that somebody is about to paint with."""
        self._session.reserve_labels(int(self._layer.selected_label))

    def _on_paint(self, event: Any) -> None:  # noqa: ANN401
        """Take note of a stroke."""
        if self._canvas.written is not None:
            self._session.watch([self._canvas.written])
            return
        largest = int(self._layer.selected_label)
        for where, value in map(_edit_of, event.value):
            largest = max(largest, int(np.max(value)))
            planes = planes_of(_indices(where, self._layer.data.shape))
            self._session.watch(planes)
            for plane in planes:
                self._session.touch(plane)
        self._session.reserve_labels(largest)


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


def _edit_of(edit: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return where an edit of napari's history is, and the numbers that it writes."""
    if hasattr(edit, "slice_key"):  # napari 0.9: a box with a mask
        return edit.slice_key, edit.new_value
    return edit[0], edit[2]


def _indices(where: Iterable[Any], shape: Sequence[int]) -> list[list[int]]:
    """Return which indices an edit has on each axis."""
    return [
        list(range(*one.indices(length))) if isinstance(one, slice) else np.unique(one).tolist()
        for one, length in zip(where, shape, strict=True)
    ]
