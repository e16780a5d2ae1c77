"""Names that people type: one spelling of each, and the nearest known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def normalise_name(name: str) -> str:
    """Return ``name`` in lower case, with underscores for hyphens, dots and spaces.

    Examples
    --------
    >>> normalise_name(" SAM ViT-B ")
    'sam_vit_b'
    """
    return "_".join(
        name.strip().lower().replace("-", " ").replace("_", " ").replace(".", " ").split()
    )


def nearest_names(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the known names that look most like ``name``, best first.

    Parameters
    ----------
    name : str
        What was typed.
    known : iterable of str
        The names that exist.
    count : int
        At most so many are returned.

    Returns
    -------
    list of str
        Empty when nothing is alike.

    Examples
    --------
    >>> nearest_names("mobilsam", ["mobile_sam", "medsam", "sam_vit_h"])
    ['mobile_sam']
    """
    spellings = {normalise_name(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(normalise_name(name), spellings, n=count, cutoff=0.6)
    return [spellings[spelling] for spelling in found]
