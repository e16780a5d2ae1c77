"""What a labelling config reads from a task's data: keys, addresses in parts, repeated entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_REFERENCE = re.compile(r"\$[\w[\].{}]+")
_PART = re.compile(r"[^.\[\]]+")
_MOST_REPEATS = 1000


@dataclass(frozen=True)
class Repeat:
    """A ``<Repeater>``: what it holds is there once for each entry of a list in a task's data.

    Parameters
    ----------
    key : str
        Of the list.
    flag : str
        What stands for the number of the entry, in names and values.
    """

    key: str
    flag: str = "{{idx}}"


def value_in(data: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    """Return what a task's data hold under a key; None where nothing stands there.

    Parameters
    ----------
    data : mapping
    key : str
        ``a``, ``a.b``, ``a[0].b``, or a text around references such as ``https://host/$a``.

    Examples
    --------
    >>> value_in({"scans": [{"url": "1.png"}]}, "scans[0].url")
    '1.png'
    >>> value_in({"file": "1.png"}, "https://host/$file")
    'https://host/1.png'
    """
    if "$" not in key:
        return _looked_up(data, key)
    parts = {one: _looked_up(data, one[1:]) for one in _REFERENCE.findall(key)}
    if not all(isinstance(part, str | int) for part in parts.values()):
        return None
    return _REFERENCE.sub(lambda found: str(parts[found.group()]), key)


def fillings(repeat: Repeat | None, data: Mapping[str, Any]) -> list[Callable[[str], str]]:
    """Return what puts the numbers of a repeater's entries into a text, entry by entry.

    Parameters
    ----------
    repeat : Repeat or None
        None for what stands in no repeater: once, as it is.
    data : mapping
        Of the task.
    """
    if repeat is None:
        return [str]
    entries = _looked_up(data, repeat.key)
    count = len(entries) if isinstance(entries, list) else 0

    def filling(number: int) -> Callable[[str], str]:
        return lambda text: text.replace(repeat.flag, str(number))

    return [filling(number) for number in range(min(count, _MOST_REPEATS))]


def _looked_up(data: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    """Return what stands under a key: ``a``, ``a.b`` or ``a[0].b``; None where nothing does."""
    if key in data:
        return data[key]
    value: Any = data
    for part in _PART.findall(key):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
