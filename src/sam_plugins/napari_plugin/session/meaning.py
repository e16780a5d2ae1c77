"""Which object somebody means who says something in a plane."""

from __future__ import annotations

from sam_plugins.napari_plugin.session.followed import drafts_of, followed_of, object_meant
from sam_plugins.napari_plugin.session.planes import Plane
from sam_plugins.napari_plugin.session.values import (
    BoxPrompt,
    Draft,
    MaskPrompt,
    PointPrompt,
    Sight,
    State,
    Turn,
)


def is_about(active: Draft, turn: Turn, plane: Plane) -> bool:
    """Return whether something is said about the active draft, and not about another object."""
    if active.sight.plane != plane:
        return False
    has_box = any(isinstance(prompt, BoxPrompt) for prompt in active.prompts)
    return not (has_box and any(isinstance(prompt, BoxPrompt) for prompt in turn.prompts))


def draft_meant(state: State, turn: Turn, sight: Sight) -> Draft | None:
    """Return the draft that something is said about, None for a new one."""
    active = state.active
    if active is None or is_about(active, turn, sight.plane):
        return active
    meant = object_meant(state, sight.plane, *_spot(turn))
    return next((d for d in drafts_of(state, meant or 0) if is_about(d, turn, sight.plane)), None)


def begun_draft(state: State, turn: Turn, sight: Sight, *, new_object: bool) -> Draft:
    """Return a new draft: of a new object, or of a known one in another slice.

    A correction of a slice to which the object was followed begins with what was found there,
    unless it is a new beginning: a box, or a click inside.
    """
    x, y = _spot(turn)
    meant = None if new_object else object_meant(state, sight.plane, x, y)
    followed = None if meant is None else followed_of(state, meant)
    there = None if followed is None else followed.on(sight.plane)
    first = turn.prompts[0]
    if there is not None and isinstance(first, PointPrompt):
        mask = there.mask
        if not (first.is_positive and mask.contains(x, y)):
            return Draft(0, sight, (Turn((MaskPrompt(mask),)), turn), of=meant, shown=mask)
    return Draft(0, sight, (turn,), of=meant)


def _spot(turn: Turn) -> tuple[float, float]:
    """Return a point that a turn is about: the first one, or the middle of a box or a mask."""
    first = turn.prompts[0]
    if isinstance(first, PointPrompt):
        return first.x, first.y
    if isinstance(first, BoxPrompt):
        return (first.x0 + first.x1) / 2, (first.y0 + first.y1) / 2
    window = first.mask.window
    return (window.left + window.right - 1) / 2, (window.top + window.bottom - 1) / 2


def title_of(turn: Turn) -> str:
    """Return a word for a turn."""
    first = turn.prompts[0]
    if len(turn.prompts) > 1:
        return "scribble"
    return {"PointPrompt": "point", "BoxPrompt": "box"}.get(type(first).__name__, "mask")
