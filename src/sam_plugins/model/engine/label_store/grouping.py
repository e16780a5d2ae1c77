"""Which pictures belong together, told by their names, so that no split divides them.

What a name does not tell is not known: two crops of one scan that are called ``a.png`` and
``b.png`` are two groups.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

GroupOf = Callable[[Path], str]
"""Returns the group of a picture."""

# What programs that cut pictures put behind the name: _x512_y0, _r3_c4, _tile12, _crop-3, _z007.
_WORDS = "crop|tile|patch|chunk|block|window|slice|plane|frame|row|col|column|pos|idx"
_LETTERS = "[xyrcztijhw]"
_CUT = re.compile(
    rf"""(?: [ _.-]* [\(\[]? (?:(?:{_WORDS})[ _=-]?\d+ | (?<![a-z]){_LETTERS}[ _=-]?\d+) [\)\]]?
         |   [ _-](?:{_WORDS})
         |   [ _-]\d+(?:px)?[ _x-]\d+(?:px)?                   # two numbers: where it was cut
         )+ $""",
    re.VERBOSE | re.IGNORECASE,
)


def by_name(path: Path) -> str:
    """Return the folder and the name without what cutting programs add to it.

    That are words and letters for places (``tile12``, ``x0_y512``, ``r3c4``, ``z007``), and two
    numbers at the end (``_0_512``). One number alone stays: ``img_001`` and ``img_002`` are more
    often two pictures than two crops; group such crops by :func:`by_pattern` or :func:`by_folder`.

    Examples
    --------
    >>> by_name(Path("scans/slide7_x0_y512.tif")), by_name(Path("scans/slide7_x512_y512.tif"))
    ('scans/slide7', 'scans/slide7')
    >>> by_name(Path("scans/img_001.tif"))
    'scans/img_001'
    """
    stem = _CUT.sub("", path.stem)
    return f"{path.parent.name}/{stem or path.stem}"


def by_folder(path: Path) -> str:
    """Return the folder of a picture: one for each specimen, slide or film.

    Examples
    --------
    >>> by_folder(Path("mouse_3/a.tif"))
    'mouse_3'
    """
    return path.parent.name


def by_pattern(pattern: str) -> GroupOf:
    r"""Return a function that groups by what a pattern finds in the name without its ending.

    Parameters
    ----------
    pattern : str
        A regular expression; its first group, or all that it finds, names the group. A picture in
        which it finds nothing is a group of its own.

    Raises
    ------
    ValueError
        If the pattern is no regular expression.

    Examples
    --------
    >>> group_of = by_pattern(r"^(rat\d+)_")
    >>> group_of(Path("rat3_data10_00.png")), group_of(Path("blank.png"))
    ('rat3', 'blank')
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"pattern must be a regular expression, got {pattern!r}: {error}"
        ) from None

    def group_of(path: Path) -> str:
        found = compiled.search(path.stem)
        if found is None:
            return path.stem
        return (found[1] if compiled.groups else found[0]) or path.stem

    return group_of
