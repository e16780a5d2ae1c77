"""How fast earlier runs were, kept for other days; no Qt in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_plugins.napari_plugin.settings import keep_settings, read_settings


@dataclass(frozen=True)
class KnownPaces:
    """How fast complete runs were.

    Parameters
    ----------
    seconds : dict of str to float
        For each picture or slice, by what was at work.
    """

    seconds: dict[str, float] = field(default_factory=dict)


def known_pace(section: str, key: str) -> float | None:
    """Return the seconds that a picture or slice took, None where nobody knows.

    Parameters
    ----------
    section : str
        Of the settings: what the paces are of.
    key : str
        What was at work.
    """
    kept = read_settings(section, KnownPaces()).seconds.get(key)
    return kept if isinstance(kept, float) else None


def keep_pace(section: str, key: str, seconds: float) -> None:
    """Remember how long a picture or slice took; parameters as of :func:`known_pace`."""
    known = read_settings(section, KnownPaces()).seconds
    keep_settings(section, KnownPaces({**known, key: seconds}))
