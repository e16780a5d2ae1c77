"""What the tests of writing share: ways to fail, and a look at the folder afterwards."""

from __future__ import annotations

from pathlib import Path

from sam_plugins.model.io.atomic import atomic_path

NAMES = ("first", "second", "third")
"""Files that belong together."""

# The numbers by which Windows reports what POSIX has other ones for.
ENTRY_NOT_FOUND, ACCESS_DENIED, SHARING_VIOLATION, INVALID_NAME = 3, 5, 32, 123


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error


def from_windows(number: int, winerror: int) -> OSError:
    error = OSError(number, "as Windows says it")
    error.winerror = winerror
    return error
