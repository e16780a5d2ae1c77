"""The rows that `make bench` prints in the end: what is asked beside what was measured."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = Path(os.environ.get("SAM_PLUGINS_BENCH", "build/bench/rows.jsonl"))
"""Where scripts leave their rows for :mod:`report`."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Parameters
    ----------
    work : str
        What was done, and by whom.
    ratio : float
        How many times as fast as the official ViT-B.
    asked : float, optional
        How many times are asked for; None for what is only told.
    goal : float, optional
        How many times are hoped for beyond that.
    quality : str
        How far the answers agree, or how long one takes.
    holds : bool
        Whether what is asked beside the ratio holds, such as the longest time.
    """

    work: str
    ratio: float
    asked: float | None = None
    quality: str = ""
    goal: float | None = None
    holds: bool = True


def record(row: Row) -> None:
    """Add a row to the file."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def recorded() -> list[Row]:
    """Return the rows of this run, the last of those with the same name."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    rows = [Row(**json.loads(line)) for line in lines]
    return list({row.work: row for row in rows}.values())
