"""What following objects through a stack takes, said before it begins; no Qt in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam_plugins.durations import duration
from sam_plugins.napari_plugin.current_model import current_model
from sam_plugins.napari_plugin.paces import keep_pace, known_pace

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.follow_params import FollowParams

_SECTION = "follow pace"
_LEAST_SLICES = 5
"""Fewer tell of the start, and not of the pace."""


def keep_follow_pace(seconds: float, slices: int) -> None:
    """Remember how long slices took that were followed from nothing, for other days.

    Parameters
    ----------
    seconds : float
        Of all of them.
    slices : int
    """
    if slices >= _LEAST_SLICES:
        keep_pace(_SECTION, _key(), seconds / slices)


def expected_to_follow(length: int, params: FollowParams) -> str:
    """Return in words how far objects are followed at most, and how long that takes.

    Parameters
    ----------
    length : int
        Slices of the stack.
    params : FollowParams
    """
    end = length if params.last < 0 else min(params.last + 1, length)
    count = max(0, end - params.first - 1)  # without the one that was prompted
    pace = known_pace(_SECTION, _key())
    text = f"{count} slice{'' if count == 1 else 's'} at most; "
    if pace is None:
        return text + "how long, the first ones will tell."
    return text + f"roughly {duration(count * pace)}, as earlier ones tell."


def _key() -> str:
    """Return what has a pace of its own: the model, and where it computes."""
    choice = current_model().choice
    return f"{choice.name}, {choice.device}"
