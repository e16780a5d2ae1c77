"""Which groups are held out: drawn once, close to a share of the pictures, never drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sam_plugins.errors import LabelStoreError
from sam_plugins.model.engine.label_store.types import Split


def draw_splits(
    sizes: Mapping[str, int], drawn: Mapping[str, Split], held_out_share: float, seed: int
) -> dict[str, Split]:
    """Draw a split for each group that has none yet.

    Parameters
    ----------
    sizes : mapping of str to int
        Pictures in each group.
    drawn : mapping of str to Split
        Groups that were drawn before; they stay as they are.
    held_out_share : float
        Of the pictures, between 0 and 1. Groups are not divided, so it is met as closely as their
        sizes allow; one group at least is held out and one is learned from.
    seed : int
        Decides the order in which groups are drawn.

    Returns
    -------
    dict of str to Split
        Of the new groups.

    Raises
    ------
    ValueError
        If ``held_out_share`` is no share.
    LabelStoreError
        If there is only one group.

    Examples
    --------
    >>> draw_splits({"a": 1, "b": 1, "c": 1, "d": 1}, {"a": Split.HELD_OUT}, 0.25, 0)
    {'d': <Split.TRAIN: 'train'>, 'c': <Split.TRAIN: 'train'>, 'b': <Split.TRAIN: 'train'>}
    """
    if not 0 < held_out_share < 1:
        raise ValueError(f"held_out_share must lie between 0 and 1, got {held_out_share}")
    if len(sizes) < 2:
        raise LabelStoreError(
            "a split needs two groups of pictures, one to learn from and one to measure on, got "
            f"{len(sizes)}{_named(sizes)}; add other pictures, or group them more finely"
        )
    total = sum(sizes.values())
    held_out = sum(sizes[group] for group, split in drawn.items() if split == Split.HELD_OUT)
    new = sorted((group for group in sizes if group not in drawn), key=lambda one: _rank(one, seed))
    result = dict.fromkeys(new, Split.TRAIN)
    missing = held_out_share * total - held_out
    for group in new:
        # in when that comes closer to the share than leaving it out
        if sizes[group] < 2 * missing:
            result[group] = Split.HELD_OUT
            missing -= sizes[group]
    _give_each_one(result, drawn, sizes)
    return result


def _give_each_one(
    result: dict[str, Split], drawn: Mapping[str, Split], sizes: Mapping[str, int]
) -> None:
    """Move the smallest new group where a split would be empty."""
    for split in Split:
        if result and split not in {*result.values(), *drawn.values()}:
            result[min(result, key=lambda group: sizes[group])] = split


def _rank(group: str, seed: int) -> bytes:
    """Return a number that is as good as random, the same on every machine."""
    return hashlib.sha256(f"{seed}\0{group}".encode()).digest()


def _named(sizes: Mapping[str, int]) -> str:
    """Return the one group there is."""
    return "".join(f" ({group!r} with {count} pictures)" for group, count in sizes.items())
