"""Drafts and their prompts in the window: a layer of the current masks, and one of the points."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from sam_plugins.napari_plugin.layers import (
    LayerCanvas,
    add_labels,
    add_unselected,
    placement,
    set_role,
)
from sam_plugins.napari_plugin.session.followed import masks_of, object_keys
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Draft, PointPrompt, State

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Points
    from napari.utils.colormaps import CyclicLabelColormap

_POSITIVE, _NEGATIVE = (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 1.0)
_VIVID = ((0, 0.9, 1, 1), (1, 0.85, 0, 1), (1, 0.2, 0.9, 1), (0.3, 1, 0.2, 1), (1, 0.5, 0.1, 1))
_MOST_VALUES = 250
_POINT_PIXELS, _POINT_ON_SCREEN = 8, (4, 12)
"""Of the picture, and at least and at most so many of the screen: no point hides a small object."""
_MS_AFTER_MASK, _MS_WITHOUT_ANSWER = 20, 400

Painted = tuple[tuple[int, MaskCrop], ...]


class DraftView:
    """Shows the drafts of a session over an image.

    The layers are made when they are first needed, and made again when somebody removed them.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
    channel_axis : int, optional
    """

    def __init__(self, viewer: ViewerModel, image: Image, channel_axis: int | None) -> None:
        self._viewer = viewer
        self._image = image
        self._channel_axis = channel_axis
        self._current: Labels | None = None
        self._points: Points | None = None
        self._canvas: LayerCanvas | None = None
        self._painted: dict[Plane, Painted] = {}
        self._shown_points: tuple[PointPrompt, ...] = ()
        self._state = State()
        self._is_closed = False
        self._ahead: dict[tuple[int, Plane], MaskCrop] = {}
        self._later = QTimer()
        self._later.setSingleShot(True)
        self._later.timeout.connect(lambda: self._show_points(self._state))

    @property
    def current(self) -> Labels | None:
        """The layer of the masks, where there is one."""
        return self._current

    @property
    def layers(self) -> list[Any]:
        """The layers that there are."""
        return [layer for layer in (self._current, self._points) if layer is not None]

    def show(self, state: State) -> None:
        """Show the drafts of a state; only the part of the picture that changed is painted.

        Points follow when the masks are there: napari takes longer for a point than the model does
        for a mask.
        """
        self._is_closed = False
        self._show_masks(state)
        self._state = state
        is_waiting = any(draft.answer is None for draft in state.drafts)
        self._later.start(_MS_WITHOUT_ANSWER if is_waiting else _MS_AFTER_MASK)

    def close(self, *, later: bool = False) -> None:
        """Remove the layers; they come back when a state is shown.

        Parameters
        ----------
        later : bool
            In a later turn of the event loop: who removes many layers counts on the others.
        """
        with contextlib.suppress(RuntimeError):  # Qt has destroyed it with the program
            self._later.stop()
        self._is_closed, self._ahead = True, {}
        viewer, layers = self._viewer, self.layers
        self._current = self._points = self._canvas = None

        def remove() -> None:
            for layer in layers:
                if layer in viewer.layers:
                    viewer.layers.remove(layer)

        if later:
            QTimer.singleShot(0, remove)
        else:
            remove()

    def _show_masks(self, state: State) -> None:
        """Paint the masks of all drafts."""
        wanted: dict[Plane, list[tuple[int, MaskCrop]]] = {}
        for key in object_keys(state):
            masks = dict(masks_of(state, key))
            masks |= {plane: mask for (one, plane), mask in self._ahead.items() if one == key}
            value = (key - 1) % _MOST_VALUES + 1
            for plane, mask in masks.items():
                wanted.setdefault(plane, []).append((value, mask))
        if not wanted and not self._painted:
            return
        canvas = self._canvas_now()
        with canvas.together():
            for plane in {*wanted, *self._painted}:
                painted, before = tuple(wanted.get(plane, ())), self._painted.get(plane, ())
                if painted != before:
                    _paint(canvas, plane, before, painted)
                self._painted[plane] = painted
        self._painted = {plane: masks for plane, masks in self._painted.items() if masks}

    def show_ahead(self, found: Sequence[tuple[int, Plane, MaskCrop]]) -> None:
        """Show more slices of objects that are still being followed; without any, none of them."""
        if self._is_closed or (not found and not self._ahead):
            return
        self._ahead |= {(key, plane): mask for key, plane, mask in found}
        if not found:
            self._ahead = {}
        self._show_masks(self._state)

    def _canvas_now(self) -> LayerCanvas:
        """Return the canvas of the masks, on a layer that is there."""
        if self._canvas is None or self._current not in self._viewer.layers:
            self._current = add_labels(
                self._viewer,
                self._image,
                "current",
                channel_axis=self._channel_axis,
                dtype=np.uint8,
                name="current object",
                colormap=_vivid(),
                opacity=0.6,
                below=self._points,  # where an answer took long, the points were there first
            )
            self._painted = {}
            self._canvas = LayerCanvas(self._viewer, self._current)
        return self._canvas

    def _show_points(self, state: State) -> None:
        """Show the points of all drafts, green on the object and red beside it."""
        drafts = [draft for draft in state.drafts if _points_of(draft)]
        points = tuple(point for draft in drafts for point in _points_of(draft))
        if points == self._shown_points and (not points or self._points in self._viewer.layers):
            return
        self._shown_points = points
        if self._points is None or self._points not in self._viewer.layers:
            if not points:
                return
            self._points = self._add_points()
        layer = self._points
        positions = [
            _position(draft.sight.plane, point) for draft in drafts for point in _points_of(draft)
        ]
        layer.data = np.array(positions, float).reshape(-1, layer.ndim)
        colours = np.array([_POSITIVE if p.is_positive else _NEGATIVE for p in points])
        # Each of these draws the layer again, which new points of the usual colour do not need.
        if points and not np.array_equal(layer.face_color, colours):
            layer.face_color = colours
        if layer.selected_data:
            layer.selected_data = set()

    def _add_points(self) -> Points:
        """Add the layer of the points."""
        from napari.layers import Points

        placed = placement(self._image, self._channel_axis)
        layer = Points(
            np.zeros((0, len(placed["scale"]))),
            ndim=len(placed["scale"]),
            name="prompts",
            size=_POINT_PIXELS,
            canvas_size_limits=_POINT_ON_SCREEN,
            face_color="lime",  # new points have it, too
            border_color="white",
            **placed,
        )
        set_role(layer, "points")
        add_unselected(self._viewer, layer)
        return layer

    def follow_image(self) -> None:
        """Put the layers where the image is now."""
        for layer in self.layers:
            place(layer, self._image, self._channel_axis)


def _vivid() -> CyclicLabelColormap:
    """Return colours that stand out from pictures and from committed objects."""
    from napari.utils.colormaps import CyclicLabelColormap

    return CyclicLabelColormap(colors=[(0, 0, 0, 0), *_VIVID])


def place(layer: Any, image: Image, channel_axis: int | None) -> None:  # noqa: ANN401
    """Put a layer of ours where an image is."""
    for name, value in placement(image, channel_axis).items():
        setattr(layer, name, value)


def _paint(canvas: LayerCanvas, plane: Plane, before: Painted, masks: Painted) -> None:
    """Paint what changed from some masks to others."""
    changed = Window(0, 0, 0, 0)
    for _, mask in {*before} ^ {*masks}:
        changed = changed.union(mask.window)
    changed = changed.within(plane.size_hw(canvas.shape))
    values = np.zeros(changed.shape, canvas.dtype)
    for value, mask in masks:
        values[mask.on(changed)] = value
    canvas.write(plane, changed, values)


def _points_of(draft: Draft) -> list[PointPrompt]:
    """Return the points that were said about a draft."""
    return [prompt for prompt in draft.prompts if isinstance(prompt, PointPrompt)]


def _position(plane: Plane, point: PointPrompt) -> tuple[float, ...]:
    """Return a point of a plane in the data of a layer."""
    others = iter(plane.at)
    chosen = {plane.axes[0]: point.y, plane.axes[1]: point.x}
    return tuple(chosen[axis] if axis in chosen else next(others) for axis in range(plane.ndim))
