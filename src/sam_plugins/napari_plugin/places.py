"""Where to segment automatically: a slice, selected shapes, or all slices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam_plugins.errors import SamPluginsError, UnusableImageError
from sam_plugins.napari_plugin.automatic_params import WHERE
from sam_plugins.napari_plugin.layers import role_of
from sam_plugins.napari_plugin.session.planes import Plane, Window

if TYPE_CHECKING:
    from napari.layers import Shapes

    from sam_plugins.napari_plugin.session.values import Sight
    from sam_plugins.napari_plugin.viewpoint import Viewpoint


class NothingToSegmentError(SamPluginsError):
    """There is no image, or no region in it."""


def sights_of(viewpoint: Viewpoint, where: str) -> list[Sight]:
    """Return the parts of planes in which objects are looked for; what is seen first.

    Parameters
    ----------
    viewpoint : Viewpoint
    where : str
        One of :data:`~sam_plugins.napari_plugin.automatic_params.WHERE` that links nothing.

    Raises
    ------
    NothingToSegmentError
        If shapes are to say where, and there are none.
    UnusableImageError
        If they lie beside the image.
    """
    plane = viewpoint.plane()
    planes = nearest_first(plane, viewpoint.source.shape) if where == WHERE[2] else [plane]
    regions = [Window(0, 0, *viewpoint.size_hw(plane))]
    if where == WHERE[1]:
        regions = selected_regions(viewpoint, plane)
    return [viewpoint.look_at(one, region) for one, region in itertools.product(planes, regions)]


def selected_regions(viewpoint: Viewpoint, plane: Plane) -> list[Window]:
    """Return the boxes around the selected shapes, around all where none is selected.

    Raises
    ------
    NothingToSegmentError
        If there are no shapes.
    UnusableImageError
        If they lie beside the image.
    """
    shapes = _shapes_layer(viewpoint)
    windows = []
    for index in sorted(shapes.selected_data) or range(shapes.nshapes):
        corners = np.array(
            [viewpoint.pixels(shapes.data_to_world(vertex)) for vertex in shapes.data[index]]
        )[:, list(plane.axes)]
        low, high = np.floor(corners.min(axis=0) + 0.5), np.ceil(corners.max(axis=0) + 0.5)
        window = Window(int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        window = window.within(viewpoint.size_hw(plane))
        if min(window.shape) > 0:
            windows.append(window)
    if not windows:
        raise UnusableImageError("the shapes lie beside the image: move them onto it")
    return windows


def _shapes_layer(viewpoint: Viewpoint) -> Shapes:
    """Return the layer of shapes that people mean: the selected one, or the topmost one."""
    from napari.layers import Shapes

    layers = viewpoint.viewer.layers
    shown = [
        one
        for one in reversed(layers)
        if isinstance(one, Shapes) and role_of(one) is None and one.visible and one.nshapes
    ]
    if not shown:
        raise NothingToSegmentError(
            "no shape says where to look: add a Shapes layer, draw a rectangle around a part "
            "of the image, and try again"
        )
    active = layers.selection.active
    return active if active in shown else shown[0]


def nearest_first(plane: Plane, shape: Sequence[int]) -> list[Plane]:
    """Return all planes of a stack, from the one that people look at outwards."""
    lengths = [length for axis, length in enumerate(shape) if axis not in plane.axes]
    every = itertools.product(*(range(length) for length in lengths))
    return [
        Plane(plane.axes, at)
        for at in sorted(
            every, key=lambda at: sum(abs(a - b) for a, b in zip(at, plane.at, strict=True))
        )
    ]
