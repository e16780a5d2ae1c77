"""What goes to which stream: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    """Print a line that was asked for."""
    print(text)


def say_json(values: Any) -> None:  # noqa: ANN401
    """Print values as JSON."""
    print(json.dumps(values, indent=1, allow_nan=False))


def complain(text: str) -> None:
    """Print a line about what went wrong, on one line whatever it says."""
    print(f"sam-plugins: {' '.join(text.split())}", file=sys.stderr)


def mention(text: str) -> None:
    """Print a line for people, silent in a pipe."""
    if is_terminal():
        print(text, file=sys.stderr)


def is_terminal() -> bool:
    """Return whether a person sees standard error."""
    return sys.stderr.isatty()


def with_progress(items: Sequence[T], unit: str) -> Iterator[T]:
    """Yield items, with a progress bar on a terminal where there are several."""
    from tqdm import tqdm

    yield from tqdm(items, unit=unit, disable=len(items) < 2 or not is_terminal(), leave=False)


@contextmanager
def step_progress(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function of (steps done, steps in all) that draws a bar; None in a pipe."""
    if not is_terminal():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=description, leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of equal keys as aligned columns with a heading."""
    if not rows:
        return ""
    keys = list(rows[0])
    widths = [max(len(key), *(len(row[key]) for row in rows)) for key in keys]
    lines = [{key: key.upper() for key in keys}, *rows]
    return "\n".join(
        "  ".join(line[key].ljust(width) for key, width in zip(keys, widths, strict=True)).rstrip()
        for line in lines
    )


def in_bytes(count: int) -> str:
    """Return a size as people say it.

    Examples
    --------
    >>> in_bytes(375042383)
    '357.7 MiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
