"""What is said of a picture that was segmented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """One picture; everything else about it is on the disk.

    Parameters
    ----------
    model_id : str
    count : int
        Objects.
    seconds : float
    files : mapping of str to Path, optional
        Results by kind; those of the job by default.
    is_left : bool
        Whether it was left alone, because it is to be segmented by tiles.
    is_passed_over : bool
        Whether an earlier run had done it.
    """

    model_id: str
    count: int = 0
    seconds: float = 0.0
    files: Mapping[str, Path] | None = None
    is_left: bool = False
    is_passed_over: bool = False
