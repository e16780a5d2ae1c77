"""What a state must agree with before a run goes on, for runs of any kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Recipe(Protocol):
    """All that decides what a run computes; a run goes on only with the same."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are after a round trip through JSON."""
        ...

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Name the values that differ from another recipe's :meth:`to_dict`."""
        ...


@dataclass(frozen=True)
class PlainRecipe:
    """A recipe of nested mappings of plain values.

    Parameters
    ----------
    values : mapping
        Anything that JSON holds.

    Examples
    --------
    >>> PlainRecipe({"config": {"seed": 0}, "data": "a"}).differences({"config": {"seed": 1}})
    ['config.seed', 'data']
    """

    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the values, as they are after a round trip through JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(self.values))
        return plain

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Name the values that differ, by their path."""
        here, there = dict(_paths(self.to_dict())), dict(_paths(other))
        absent = object()
        return sorted(
            path
            for path in here.keys() | there.keys()
            if here.get(path, absent) != there.get(path, absent)
        )


def _paths(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its path, such as ``config.seed``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{key}.")
        else:
            yield before + key, value
