"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    topic : str
        Such as ``"token"`` or ``"webhook of project 3"``.
    is_ok : bool
    message : str
        What was found.
    cure : str
        What to do; empty where nothing has to be done.
    is_repaired : bool
        Whether the cure was done just now.
    """

    topic: str
    is_ok: bool
    message: str
    cure: str = ""
    is_repaired: bool = False


def good(topic: str, message: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(topic, is_ok=True, message=message)


def bad(topic: str, message: str, cure: str) -> Finding:
    """Return that something is not."""
    return Finding(topic, is_ok=False, message=message, cure=cure)


def repaired(topic: str, message: str) -> Finding:
    """Return that something was not as it should be, and is now."""
    return Finding(topic, is_ok=True, message=message, is_repaired=True)
