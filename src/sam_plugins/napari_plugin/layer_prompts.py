"""Points and shapes of napari's own layers as prompts: each is an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam_plugins.napari_plugin.coordinates import NotInPlaneError
from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.layers import role_of

if TYPE_CHECKING:
    from napari.layers import Layer

    from sam_plugins.napari_plugin.session.values import Draft
    from sam_plugins.napari_plugin.viewpoint import Position, Viewpoint

_REMEDY = "add a Points or a Shapes layer, put a point or a rectangle on each object, and select it"


def prompts_of(
    layer: Layer | None, viewpoint: Viewpoint
) -> tuple[list[Position], list[tuple[Position, Position]]]:
    """Return points, and boxes as two corners, of a layer; positions are those of the world.

    Of a shape its box is taken. Points and shapes may lie in several slices. Of those that are
    selected in the layer only these count.

    Parameters
    ----------
    layer : Layer or None
    viewpoint : Viewpoint
        Of the image that is segmented.

    Raises
    ------
    NothingThereError
        If it is no layer of points or shapes, is one of ours, or has none.
    """
    from napari.layers import Points, Shapes

    if not isinstance(layer, Points | Shapes) or role_of(layer) is not None:
        raise NothingThereError(f"no layer of points or shapes is selected: {_REMEDY}")
    chosen = sorted(layer.selected_data) or range(len(layer.data))
    if not len(layer.data):
        raise NothingThereError(f"the layer {layer.name!r} has nothing in it: {_REMEDY}")
    if isinstance(layer, Points):
        return [_position(layer, layer.data[index], viewpoint) for index in chosen], []
    boxes = [_box(layer, layer.data[index], viewpoint) for index in chosen]
    return [], [box for box in boxes if box is not None]


def require_some(drafts: tuple[Draft, ...], layer: Layer | None) -> None:
    """Refuse prompts none of which lies on the image.

    Raises
    ------
    NothingThereError
        If there is no draft.
    """
    if not drafts:
        name = "" if layer is None else layer.name
        raise NothingThereError(
            f"nothing of the layer {name!r} lies on the image: put the points or rectangles there"
        )


def _position(layer: Layer, data: object, viewpoint: Viewpoint) -> Position:
    """Return where in the world, for the viewer's axes, something of a layer lies."""
    world = tuple(float(value) for value in layer.data_to_world(data))
    before = tuple(float(value) for value in viewpoint.viewer.dims.point)
    return before[: len(before) - len(world)] + world


def _box(layer: Layer, vertices: object, viewpoint: Viewpoint) -> tuple[Position, Position] | None:
    """Return two corners of the box around a shape on the image; None beside its planes."""
    try:
        places = [
            viewpoint.place(_position(layer, vertex, viewpoint)) for vertex in np.asarray(vertices)
        ]
    except NotInPlaneError:
        return None
    plane = places[0].plane
    if any(found.plane != plane for found in places):
        return None  # it lies across slices
    xs, ys = [found.x for found in places], [found.y for found in places]
    return (
        viewpoint.position(plane, min(xs), min(ys)),
        viewpoint.position(plane, max(xs), max(ys)),
    )
