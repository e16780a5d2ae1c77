"""The mouse on the canvas: clicks, boxes, scribbles and outlines of objects."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qtpy.QtCore import QTimer

from sam_plugins.napari_plugin.params import Tool

if TYPE_CHECKING:
    from napari.components import ViewerModel

_CLICK_PIXELS = 4  # of the screen: a hand that clicks is never quite still
_CLOSE_PIXELS = 10  # of the screen: so near to its first corner an outline is closed
_LEAST_CORNERS = 3
_NEGATIVE_KEYS = ("Control", "Meta")
Position = tuple[float, ...]


class PromptTaker(Protocol):
    """Who is told what the mouse said; positions are those of the world."""

    @property
    def tool(self) -> Tool:
        """What dragging does."""

    @property
    def takes_mouse(self) -> bool:
        """Whether the mouse is ours just now, and not a tool of napari's."""

    def take_click(self, position: Position, *, is_negative: bool) -> None:
        """Take a click."""

    def take_drag(self, tool: Tool, path: list[Position], *, is_negative: bool) -> None:
        """Take a drag that has ended: two corners of a box, or a line."""

    def show_drag(self, tool: Tool, path: list[Position]) -> None:
        """Show a drag or an outline that goes on; an empty one when it is over."""


class CanvasMouse:
    """Listens to a viewer's mouse for as long as it is open.

    A left click is a point, with Ctrl (or Cmd) beside the object. Dragging draws with the tool that
    is chosen, a box with Shift in any case, and moves the view as ever where there is none. With
    the polygon each click is a corner of an outline; a double click, or one on the first corner,
    closes it.

    The view is moved here, too, so that a press may be said to be handled: for one that is not
    vispy draws the whole scene to see what lies under the mouse, and the window draws it once more,
    both before the model is asked.

    Parameters
    ----------
    viewer : ViewerModel
    taker : PromptTaker
    """

    def __init__(self, viewer: ViewerModel, taker: PromptTaker) -> None:
        self._viewer = viewer
        self._taker = taker
        self._corners: list[Position] = []
        self._zooms = [
            callback
            for callback in viewer.mouse_double_click_callbacks
            if getattr(callback, "__name__", "") == "double_click_to_zoom"
        ]
        for callback in self._zooms:  # two quick clicks are two points
            viewer.mouse_double_click_callbacks.remove(callback)
        viewer.mouse_double_click_callbacks.append(self._on_double_click)
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.mouse_move_callbacks.append(self._on_move)

    def close(self) -> None:
        """Leave the mouse to napari."""
        viewer = self._viewer
        for callbacks, ours in (
            (viewer.mouse_drag_callbacks, self._on_press),
            (viewer.mouse_double_click_callbacks, self._on_double_click),
            (viewer.mouse_move_callbacks, self._on_move),
        ):
            if ours in callbacks:
                callbacks.remove(ours)
        viewer.mouse_double_click_callbacks.extend(self._zooms)
        self._zooms = []

    def _on_double_click(self, viewer: ViewerModel, event: Any) -> None:  # noqa: ANN401, ARG002
        """Take the second of two quick clicks, which closes an outline."""
        if event.button != 1 or not self._taker.takes_mouse:
            return
        is_negative = _is_negative(event)
        if self._taker.tool == "polygon" and not is_negative:
            self._close_outline()
        else:
            self._click(tuple(event.position), is_negative=is_negative)

    def _on_move(self, viewer: ViewerModel, event: Any) -> None:  # noqa: ANN401, ARG002
        """Let the last side of an outline follow the mouse."""
        if self._corners:
            self._taker.show_drag("polygon", [*self._corners, tuple(event.position)])

    @property
    def has_outline(self) -> bool:
        """Whether an outline has corners and is not closed yet."""
        return bool(self._corners)

    def drop_outline(self) -> None:
        """Forget the corners of an outline that is not closed."""
        if self._corners:
            self._corners.clear()
            self._taker.show_drag("polygon", [])

    def _add_corner(self, viewer: ViewerModel, position: Position, shown: list[int]) -> None:
        """Take a corner of an outline, or close it where that is the first one."""
        if len(self._corners) >= _LEAST_CORNERS:
            apart = np.subtract(position, self._corners[0])[shown]
            if np.abs(apart).max() * camera_of(viewer).zoom <= _CLOSE_PIXELS:
                self._close_outline()
                return
        self._corners.append(position)
        self._taker.show_drag("polygon", list(self._corners))

    def _close_outline(self) -> None:
        """Tell of an outline that has corners enough."""
        if len(self._corners) >= _LEAST_CORNERS:
            corners = list(self._corners)
            self.drop_outline()
            self._drag("polygon", corners, is_negative=False)

    def _click(self, position: Position, *, is_negative: bool) -> None:
        """Tell of a click when napari is done with the mouse.

        What follows may let events through (a progress bar of napari does), and a generator of
        mouse events must not be entered twice.
        """
        QTimer.singleShot(0, lambda: self._taker.take_click(position, is_negative=is_negative))

    def _drag(self, tool: Tool, path: list[Position], *, is_negative: bool) -> None:
        """Tell of a drag when napari is done with the mouse."""
        QTimer.singleShot(0, lambda: self._taker.take_drag(tool, path, is_negative=is_negative))

    def _on_press(
        self,
        viewer: ViewerModel,
        event: Any,  # noqa: ANN401
    ) -> Generator[None, None, None]:
        """Follow the mouse from press to release."""
        if event.button != 1 or not self._taker.takes_mouse or "Alt" in event.modifiers:
            return
        event.handled = True
        is_negative = _is_negative(event)
        tool: Tool = "box" if "Shift" in event.modifiers else self._taker.tool
        start, path = np.array(event.pos), [tuple(event.position)]
        draws = tool not in ("points", "polygon")
        has_moved = False
        yield
        while event.type == "mouse_move":
            has_moved = has_moved or np.abs(np.array(event.pos) - start).max() > _CLICK_PIXELS
            if draws and has_moved:
                path.append(tuple(event.position))
                self._taker.show_drag(tool, path)
            elif has_moved:
                _move_view(viewer, path[0], event)
            yield
        if not has_moved:
            if tool == "polygon" and not is_negative:
                self._add_corner(viewer, path[0], list(event.dims_displayed))
            else:
                self._click(path[0], is_negative=is_negative)
        elif draws:
            path.append(tuple(event.position))
            self._taker.show_drag(tool, [])
            self._drag(tool, path, is_negative=is_negative)


def camera_of(viewer: ViewerModel) -> Any:  # noqa: ANN401
    """Return the camera, which moved within the viewer in napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def _move_view(viewer: ViewerModel, grabbed: Position, event: Any) -> None:  # noqa: ANN401
    """Bring a position of the world to where the mouse is now."""
    camera = camera_of(viewer)
    if not camera.mouse_pan:
        return
    shown = list(event.dims_displayed)
    down, across = np.array(grabbed)[shown] - np.array(event.position)[shown]
    depth, y, x = camera.center
    camera.center = (depth, y + down, x + across)


def _is_negative(event: Any) -> bool:  # noqa: ANN401
    """Return whether a key is held that makes a point negative."""
    return any(key in event.modifiers for key in _NEGATIVE_KEYS)
