"""From what the mouse draws in the world to prompts in a plane of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sam_plugins.napari_plugin.coordinates import Place, box_between
from sam_plugins.napari_plugin.session.editing import polygon_mask, sample_path
from sam_plugins.napari_plugin.session.values import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    Sight,
)
from sam_plugins.napari_plugin.viewpoint import Position, Viewpoint


class Said(NamedTuple):
    """Prompts that were given by one gesture, and a place that they are about."""

    prompts: tuple[Prompt, ...]
    place: Place


def point_at(viewpoint: Viewpoint, position: Position, *, is_positive: bool) -> Said | None:
    """Return a point; None beside the image."""
    found = viewpoint.place_inside(position)
    return None if found is None else Said((PointPrompt(found.x, found.y, is_positive),), found)


def box_at(viewpoint: Viewpoint, corner: Position, other: Position) -> Said | None:
    """Return a box and its middle; None where it has no pixel."""
    one, two = viewpoint.place(corner), viewpoint.place(other)
    size_hw = viewpoint.size_hw(one.plane)
    box = box_between((one.x, one.y), (two.x, two.y), size_hw)
    if box is None:
        return None
    middle = Place(one.plane, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return Said((BoxPrompt(*box),), middle)


def scribble_along(
    viewpoint: Viewpoint, path: Sequence[Position], *, is_positive: bool
) -> Said | None:
    """Return points along a line, and its start; None where all of it is beside the image."""
    found = [viewpoint.place_inside(position) for position in path]
    places = [place for place in found if place is not None]
    if not places:
        return None
    points = sample_path([(place.x, place.y) for place in places])
    return Said(tuple(PointPrompt(x, y, is_positive) for x, y in points), places[0])


def outline_of(viewpoint: Viewpoint, corners: Sequence[Position]) -> Said:
    """Return the mask that a lasso or a polygon holds, and its middle."""
    places = [viewpoint.place(position) for position in corners]
    plane = places[0].plane
    mask = polygon_mask([(p.x, p.y) for p in places], viewpoint.size_hw(plane))
    window = mask.window
    middle = Place(plane, (window.left + window.right) / 2, (window.top + window.bottom) / 2)
    return Said((MaskPrompt(mask),), middle)


def prompts_by_sight(
    viewpoint: Viewpoint,
    points: Sequence[Position],
    boxes: Sequence[tuple[Position, Position]],
) -> dict[Sight, list[Prompt]]:
    """Return points and boxes by what the model is shown for them; those beside are left out."""
    found = [point_at(viewpoint, position, is_positive=True) for position in points]
    found += [box_at(viewpoint, corner, other) for corner, other in boxes]
    prompts: dict[Sight, list[Prompt]] = {}
    for said in found:
        if said is not None:
            sight = viewpoint.sight_of(said.place.plane, said.prompts)
            prompts.setdefault(sight, []).extend(said.prompts)
    return prompts
