"""Which pictures are only measured on: decided by the hash of their group, the same for ever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sam_plugins.errors import DatasetError
from sam_plugins.labelstudio_backend.learning.settings import HELD_OUT_SHARE
from sam_plugins.model.engine.label_store import ImageRecord, LabelStore, Split
from sam_plugins.model.engine.label_store.types import TRUSTED
from sam_plugins.model.weights.comparison import LEAST_PICTURES


@dataclass(frozen=True)
class Divided:
    """How many labelled pictures there are of each kind."""

    train: int
    held_out: int


def place_of(group: str) -> float:
    """Return a number from 0 to 1 that a group has for ever; those under the share are held out.

    Examples
    --------
    >>> round(place_of("1/cells_07"), 3)
    0.656
    """
    digest = hashlib.sha256(f"sam-plugins held out\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def divide(
    store: LabelStore, *, share: float = HELD_OUT_SHARE, is_first: bool, least: int = LEAST_PICTURES
) -> Divided:
    """Give every labelled picture without a split its own.

    Where the share gives fewer held-out pictures than a promotion needs, the groups with the next
    places are held out too, as long as nothing has learned from them, and as long as more is left
    to learn from than to measure on.

    Parameters
    ----------
    store : LabelStore
    share : float
        Of groups, held out.
    is_first : bool
        Whether nothing has learned from this store yet.
    least : int
        Held-out pictures that a promotion needs.
    """
    plan = _planned(store, share, is_first=is_first, least=least)
    for group in plan.undecided:
        store.set_split(group, Split.HELD_OUT if group in plan.held_out else Split.TRAIN)
    return _count(plan.labelled, plan.held_out)


def foreseen(
    store: LabelStore, *, share: float = HELD_OUT_SHARE, is_first: bool, least: int = LEAST_PICTURES
) -> Divided:
    """Return what :func:`divide` would come to, and write nothing."""
    plan = _planned(store, share, is_first=is_first, least=least)
    return _count(plan.labelled, plan.held_out)


@dataclass(frozen=True)
class _Plan:
    """The labelled pictures, the groups that get a split, and all that are held out."""

    labelled: list[ImageRecord]
    undecided: set[str]
    held_out: set[str]


def _planned(store: LabelStore, share: float, *, is_first: bool, least: int) -> _Plan:
    """Choose what is held out."""
    labelled = _labelled(store)
    undecided = {one.group for one in labelled if is_first or one.split is None}
    chosen = {group: place_of(group) < share for group in undecided}
    held_out = {one.group for one in labelled if one.split == Split.HELD_OUT} | {
        group for group, is_held_out in chosen.items() if is_held_out
    }
    for group in sorted(undecided - held_out, key=place_of):
        count = _count(labelled, held_out)
        more = sum(one.group == group for one in labelled)
        if count.held_out >= least or count.train - more < count.held_out + more:
            break
        held_out.add(group)
    return _Plan(labelled, undecided, held_out)


def require_enough(divided: Divided, least: int = LEAST_PICTURES) -> None:
    """Refuse to train on labels from which no promotion could come.

    Raises
    ------
    DatasetError
        With how many there are, and how many it takes.
    """
    if divided.held_out < least or divided.train < 1:
        have = divided.train + divided.held_out
        raise DatasetError(
            f"{have} labelled pictures, of which {divided.held_out} are held out to measure on; a "
            f"promotion needs {least} of these: label at least {max(1, 2 * least - have)} more "
            "(neighbouring crops of one picture count as one)"
        )


def _labelled(store: LabelStore) -> list[ImageRecord]:
    """Return the pictures that can be learned from or measured on."""
    touched = {one.image_id for one in store.objects(reviews=TRUSTED)}
    return [one for one in store.images() if one.is_complete or one.image_id in touched]


def _count(labelled: list[ImageRecord], held_out: set[str]) -> Divided:
    """Count pictures of each kind."""
    measured = sum(one.group in held_out for one in labelled)
    return Divided(len(labelled) - measured, measured)
