"""What is being drawn with the mouse, while it is being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.layers import add_unselected, set_role
from sam_plugins.napari_plugin.params import Tool

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Shapes

_WIDTH = 2  # pixels of the screen, about


class DragView:
    """Shows a box or a line in the world of a viewer.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Shapes | None = None

    def show(self, tool: Tool, path: Sequence[Sequence[float]]) -> None:
        """Show a drag: two corners of a box, or a line; without positions it is over."""
        if len(path) < 2:
            if self._layer is not None and len(self._layer.data):
                self._layer.data = []
            return
        layer = self._layer_now()
        points = np.asarray(path, float)
        if tool == "box":
            points = _corners(points[0], points[-1], self._viewer.dims.displayed)
            layer.data = [(points, "polygon")]
        else:
            layer.data = [(points, "path" if tool == "scribble" else "polygon")]

    def close(self) -> None:
        """Remove the layer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    def _layer_now(self) -> Shapes:
        """Return the layer, adding it where it is not there."""
        from napari.layers import Shapes

        if self._layer is None or self._layer not in self._viewer.layers:
            from sam_plugins.napari_plugin.mouse import camera_of

            layer = Shapes(
                ndim=self._viewer.dims.ndim,
                name="drawing",
                edge_color="yellow",
                face_color="transparent",
                edge_width=_WIDTH / max(camera_of(self._viewer).zoom, 1e-6),
            )
            set_role(layer, "boxes")
            add_unselected(self._viewer, layer)
            self._layer = layer
        return self._layer


def _corners(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], displayed: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Return the four corners of a box between two positions."""
    rows, columns = displayed[-2:]
    corners = np.tile(one, (4, 1))
    corners[1:3, columns] = other[columns]
    corners[2:4, rows] = other[rows]
    return corners
