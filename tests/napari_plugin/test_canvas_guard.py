"""Layers that are removed leave the graphics card in the canvas's own context."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtGui import QOpenGLContext  # noqa: E402
from qtpy.QtOpenGLWidgets import QOpenGLWidget  # noqa: E402
from qtpy.QtWidgets import QWidget  # noqa: E402
from tests.napari_plugin.segmenting import rest  # noqa: E402

from sam_plugins.napari_plugin.canvas_guard import guard_canvas  # noqa: E402


@pytest.mark.parametrize("state", ["docked", "not docked", "destroyed"])
def test_layers_may_be_removed_and_others_added(viewer: Any, state: str) -> None:
    widget = QWidget()
    guard_canvas(viewer, widget)
    if state == "docked":
        viewer.window.add_dock_widget(widget)
    elif state == "destroyed":
        widget.deleteLater()
    viewer.add_image(np.zeros((64, 64), np.uint8))
    points = viewer.add_points(np.array([[20.0, 20.0]]))
    image = viewer.add_image(np.ones((64, 64), np.uint8))
    rest()
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    current = []
    viewer.layers.events.removing.connect(
        lambda event: current.append(QOpenGLContext.currentContext() == canvas.context()),
        position="last",
    )
    viewer.layers.remove(points)
    rest()  # Qt makes another context current when it shows the window
    viewer.layers.remove(image)
    rest()
    viewer.add_image(np.eye(64, dtype=np.uint8))
    rest()  # without the guard: a segmentation fault, with Mesa
    assert current == [True, True]
