"""What the tests of ``segment`` share beside fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

RunSegment: TypeAlias = Callable[..., int]
Said: TypeAlias = Callable[[str], str]

RESULTS_OF_A = ["a_labels.tif", "a_objects.json", "a_overlay.png"]


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
