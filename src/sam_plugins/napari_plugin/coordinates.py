"""From where the mouse is to pixels that the model knows, and back; all of it here, once.

napari speaks of positions in the world, with one number for each axis of the viewer, the sliders
included. A layer knows the way from there to its data, whatever its scale, translation, rotation
and affine; integers are the centres of pixels, for napari and for us. What is left is to choose the
two axes that are seen, and the part of the picture that the model was shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sam_plugins.napari_plugin.session.planes import Plane, Window

WHOLE_SIDE = 2048
"""A plane whose longer side is no longer than this is shown to the model as a whole."""

REGION_SIDE = 1024
"""Of larger planes the model is shown a square of this many pixels, or a power of two times it."""


class NotInPlaneError(ValueError):
    """A position that lies in no picture of a layer."""


@dataclass(frozen=True)
class Place:
    """A point in a plane of a layer, x along its columns, y along its rows."""

    plane: Plane
    x: float
    y: float


def displayed_axes(displayed: Sequence[int], viewer_ndim: int, layer_ndim: int) -> tuple[int, int]:
    """Return the axes of a layer that are rows and columns on the screen.

    Parameters
    ----------
    displayed : sequence of int
        Axes of the viewer that are displayed, rows before columns.
    viewer_ndim, layer_ndim : int
        A layer with fewer axes than the viewer has the last ones, as napari aligns them.

    Raises
    ------
    NotInPlaneError
        If not two axes are displayed, or the layer lacks one of them.

    Examples
    --------
    >>> displayed_axes((1, 2), 3, 3), displayed_axes((1, 2), 3, 2)
    ((1, 2), (0, 1))
    """
    if len(displayed) != 2:
        raise NotInPlaneError(
            f"segmenting needs a picture of two axes, got {len(displayed)}; switch to the 2D view"
        )
    rows, columns = (axis - (viewer_ndim - layer_ndim) for axis in displayed)
    if min(rows, columns) < 0:
        raise NotInPlaneError(
            f"the layer has {layer_ndim} of the viewer's {viewer_ndim} axes and lacks one that is "
            "displayed; roll the axes, or choose another image"
        )
    return rows, columns


def place_of(data_position: Sequence[float], axes: tuple[int, int], shape: Sequence[int]) -> Place:
    """Return the plane that a position lies in, and where in it.

    Parameters
    ----------
    data_position : sequence of float
        As ``layer.world_to_data`` returns it.
    axes : (int, int)
        Axis of the rows and of the columns.
    shape : sequence of int
        Of the layer.

    Raises
    ------
    NotInPlaneError
        If the plane lies beside the layer.

    Examples
    --------
    >>> place_of((4.2, 10.0, 20.5), (1, 2), (9, 64, 64))
    Place(plane=Plane(axes=(1, 2), at=(4,)), x=20.5, y=10.0)
    """
    at = []
    for axis, (value, length) in enumerate(zip(data_position, shape, strict=True)):
        if axis in axes:
            continue
        index = math.floor(value + 0.5)
        if not 0 <= index < length:
            raise NotInPlaneError(
                f"the image has planes 0 to {length - 1} on axis {axis}, got {index}; move the "
                "slider to where it is"
            )
        at.append(index)
    return Place(
        Plane(axes, tuple(at)), float(data_position[axes[1]]), float(data_position[axes[0]])
    )


def is_inside(x: float, y: float, size_hw: tuple[int, int]) -> bool:
    """Return whether a point lies on a pixel of a picture.

    Examples
    --------
    >>> is_inside(-0.5, 3.4, (4, 4)), is_inside(-0.6, 3.4, (4, 4))
    (True, False)
    """
    height, width = size_hw
    return -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5


@dataclass(frozen=True)
class RegionPixels:
    """The pixels of the picture that the model is shown of a region.

    Parameters
    ----------
    region : Window
        In pixels of the plane.
    size_hw : (int, int)
        Of the picture, which may be smaller than the region.

    Examples
    --------
    >>> pixels = RegionPixels(Window(100, 200, 300, 600), (100, 200))
    >>> pixels.to_model(200.5, 100.5), pixels.to_plane(0, 0)
    ((0.0, 0.0), (200.5, 100.5))
    """

    region: Window
    size_hw: tuple[int, int]

    @property
    def factors_yx(self) -> tuple[float, float]:
        """How many pixels of the plane are one of the picture, down and across."""
        height, width = self.region.shape
        return height / self.size_hw[0], width / self.size_hw[1]

    def to_model(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the plane in pixels of the picture, within its outermost pixels."""
        down, across = self.factors_yx
        height, width = self.size_hw
        column = (x - self.region.left + 0.5) / across - 0.5
        row = (y - self.region.top + 0.5) / down - 0.5
        return min(max(column, -0.5), width - 0.5), min(max(row, -0.5), height - 0.5)

    def to_plane(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the picture in pixels of the plane."""
        down, across = self.factors_yx
        return (
            (x + 0.5) * across - 0.5 + self.region.left,
            (y + 0.5) * down - 0.5 + self.region.top,
        )


def box_between(
    one_xy: tuple[float, float], other_xy: tuple[float, float], size_hw: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """Return the box between two corners within a picture; None where it has no pixel's width.

    Examples
    --------
    >>> box_between((30, 2), (-9, 12), (40, 50))
    (-0.5, 2.0, 30.0, 12.0)
    """
    height, width = size_hw
    (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(one_xy, other_xy, strict=True))
    x0, x1 = max(x0, -0.5), min(x1, width - 0.5)
    y0, y1 = max(y0, -0.5), min(y1, height - 0.5)
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    return float(x0), float(y0), float(x1), float(y1)
