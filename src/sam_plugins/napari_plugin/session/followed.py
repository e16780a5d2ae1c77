"""Objects that were followed through the slices of a stack: values, and which mask counts where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.session.values import Draft, State, Turn


@dataclass(frozen=True)
class FollowedSlice:
    """An object on one slice.

    Parameters
    ----------
    plane : Plane
    mask : MaskCrop
    confidence : float
        0 to 1.
    is_prompted : bool
        Whether a person said something about the object there.
    """

    plane: Plane
    mask: MaskCrop
    confidence: float
    is_prompted: bool = False


@dataclass(frozen=True)
class End:
    """The first slice that does not belong to an object any more, and why, in words."""

    index: int
    reason: str


@dataclass(frozen=True)
class DoubtfulSlice:
    """A slice that a person should look at, and why, in words."""

    index: int
    confidence: float
    reason: str


@dataclass(frozen=True)
class Followed:
    """One object through the slices of a stack.

    Parameters
    ----------
    key : int
        Of the object; see :attr:`~sam_plugins.napari_plugin.session.values.Draft.object_key`.
    axis : int
        Of the array, along which it was followed.
    anchors : tuple of (int, tuple of Turn)
        Keys and turns of the drafts that it was followed from.
    slices : tuple of FollowedSlice
        In order, the prompted ones among them.
    ends : tuple of End
        Downwards and upwards.
    doubts : tuple of DoubtfulSlice
        The most doubtful first.
    """

    key: int
    axis: int
    anchors: tuple[tuple[int, tuple[Turn, ...]], ...]
    slices: tuple[FollowedSlice, ...]
    ends: tuple[End, ...] = ()
    doubts: tuple[DoubtfulSlice, ...] = ()

    def on(self, plane: Plane) -> FollowedSlice | None:
        """Return the object in a plane, None where it is not."""
        return next((found for found in self.slices if found.plane == plane), None)

    def knows(self, draft: Draft) -> bool:
        """Return whether it was followed from a draft as that is now."""
        return (draft.key, draft.turns) in self.anchors


def followed_of(state: State, object_key: int) -> Followed | None:
    """Return what was followed of an object, None where nothing was."""
    return next((found for found in state.followed if found.key == object_key), None)


def drafts_of(state: State, object_key: int) -> tuple[Draft, ...]:
    """Return the drafts of an object, one for each prompted slice."""
    return tuple(draft for draft in state.drafts if draft.object_key == object_key)


def object_keys(state: State) -> tuple[int, ...]:
    """Return the keys of all objects that are being made, the active one last."""
    latest_first = dict.fromkeys(draft.object_key for draft in reversed(state.drafts))
    return tuple(reversed(latest_first))


def masks_of(state: State, object_key: int) -> Iterator[tuple[Plane, MaskCrop]]:
    """Yield plane and mask of an object wherever it is.

    What a person said on a slice since the object was followed takes the place of what was found
    there.
    """
    followed = followed_of(state, object_key)
    new = [
        draft
        for draft in drafts_of(state, object_key)
        if followed is None or not followed.knows(draft)
    ]
    changed = {draft.sight.plane for draft in new if draft.mask is not None}
    for found in () if followed is None else followed.slices:
        if found.plane not in changed:
            yield found.plane, found.mask
    for draft in new:
        if draft.mask is not None and not draft.mask.is_empty:
            yield draft.sight.plane, draft.mask


def object_at(state: State, plane: Plane, x: float, y: float) -> int | None:
    """Return the followed object that has a pixel of a plane, the latest of several."""
    for followed in reversed(state.followed):
        found = followed.on(plane)
        if found is not None and found.mask.contains(x, y):
            return followed.key
    return None


def object_meant(state: State, plane: Plane, x: float, y: float) -> int | None:
    """Return the object that somebody means who says something in another plane than before.

    It is the followed one under the prompt, or the active one where that lies in a slice of the
    same stack; None for a new one.
    """
    there = object_at(state, plane, x, y)
    if there is not None or state.active is None:
        return there
    return state.active.object_key if is_parallel(state.active.sight.plane, plane) else None


def is_parallel(one: Plane, other: Plane) -> bool:
    """Return whether two planes are slices of one stack, and not the same.

    Examples
    --------
    >>> is_parallel(Plane((1, 2), (4,)), Plane((1, 2), (9,)))
    True
    >>> is_parallel(Plane((2, 3), (0, 4)), Plane((2, 3), (1, 9)))
    False
    """
    if one.axes != other.axes or one.ndim != other.ndim:
        return False
    return sum(a != b for a, b in zip(one.at, other.at, strict=True)) == 1


def draft_at(state: State, plane: Plane, x: float, y: float) -> Draft | None:
    """Return the topmost draft at a pixel, or the last one of an object followed to there."""
    for draft in reversed(state.drafts):
        if draft.mask is not None and draft.mask.contains(x, y) and draft.sight.plane == plane:
            return draft
    key = object_at(state, plane, x, y)
    return None if key is None else drafts_of(state, key)[-1]
