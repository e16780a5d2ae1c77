"""A window whose layers can be removed without a crash of the process.

When a layer is removed, napari (0.6 to 0.9) lets vispy delete what the layer had on the graphics
card at once, in whichever OpenGL context is current. With Qt 6 that is the one in which Qt puts the
window together, not the canvas's. Mesa drivers then read freed memory with a later draw: adding
points and a second layer, removing both and adding an image ends a bare napari with a segmentation
fault in ``glDrawArrays``. Here the canvas's own context is made current before.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtOpenGLWidgets import QOpenGLWidget
    from qtpy.QtWidgets import QWidget


def guard_canvas(viewer: ViewerModel, widget: QWidget) -> None:
    """Make the canvas current before a layer is removed, by whomever, as long as the viewer lives.

    Parameters
    ----------
    viewer : ViewerModel
    widget : QWidget
        In the window of this viewer, once it is docked.
    """
    known = weakref.ref(widget)

    def make_current(event: Any) -> None:  # noqa: ANN401, ARG001
        for canvas in _canvases(known()):
            if canvas.isValid():
                canvas.makeCurrent()

    viewer.layers.events.removing.connect(make_current)


def _canvases(widget: QWidget | None) -> list[QOpenGLWidget]:
    """Return the canvases of a widget's window; where it has none, of the window in front."""
    from qtpy.QtOpenGLWidgets import QOpenGLWidget
    from qtpy.QtWidgets import QApplication

    windows = [*_parents(widget), QApplication.activeWindow()]
    for window in windows:
        found = [] if window is None else window.findChildren(QOpenGLWidget)
        if found:
            return list(found)
    return [
        canvas
        for window in QApplication.topLevelWidgets()
        for canvas in window.findChildren(QOpenGLWidget)
    ]


def _parents(widget: QWidget | None) -> list[QWidget]:
    """Return what a widget lies in, from inside to outside; nothing of one that Qt destroyed."""
    found: list[QWidget] = []
    try:
        while widget is not None:
            widget = widget.parentWidget()
            if widget is not None:
                found.append(widget)
    except RuntimeError:
        return []
    return found
