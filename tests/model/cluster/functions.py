"""Tasks for the tests, at module level so that workers find them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sam_plugins.errors import UnreadableImageError
from sam_plugins.model.cluster.outcome import Kept


def doubled(kept: Kept, item: int) -> int:
    return 2 * item


def process(kept: Kept) -> int:
    return os.getpid()


def torch_threads(kept: Kept) -> int:
    import torch

    return torch.get_num_threads()


def thirteen_fails(kept: Kept, item: int) -> int:
    if item == 13:
        raise UnreadableImageError("cannot read 13.png: no such file; check the name")
    return item


class StubbornError(Exception):
    """An error that cannot be built again from what it was pickled to."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def stubborn(kept: Kept, item: int) -> int:
    raise StubbornError("this", "that")


def remembered(kept: Kept, folder: str) -> int:
    """Leave a file for each time that the costly part was made."""

    def make() -> int:
        (Path(folder) / f"made-{os.getpid()}-{time.monotonic_ns()}").touch()
        return os.getpid()

    time.sleep(0.01)
    return kept.get("costly", make)


def endless(kept: Kept, item: int) -> int:
    """Long enough for a test, and over before the next one waits for it."""
    time.sleep(4)
    return item


def slow_square(kept: Kept, item: tuple[str, int]) -> int:
    """Write a result as our commands do: whole, under the same name each time."""
    folder, number = item
    time.sleep(0.03)
    part = Path(folder) / f".{number}-{os.getpid()}"
    part.write_text(str(number**2))
    part.replace(Path(folder) / f"{number}.txt")
    return number**2


def kills_its_worker(kept: Kept, item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), 9)
    return item
