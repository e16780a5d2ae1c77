"""Names of the hidden files and folders of what is being written, which tell who writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import uuid
from functools import cache
from pathlib import Path

TEMPORARY_SUFFIX = ".part"
"""Ending of the hidden files and folders of what is being written; an old one may be deleted."""

# Where it is written, by which process, and a random number.
_TEMPORARY = re.compile(
    rf"\.(?:.+\.)?([0-9a-f]{{6}})-(\d+)-[0-9a-f]{{12}}{re.escape(TEMPORARY_SUFFIX)}"
)

_MACHINE_ID = Path("/etc/machine-id")


def temporary_beside(target: Path) -> Path:
    """Return the hidden name beside a file under which it is written."""
    beginning = os.fsencode(target.name)[:100].decode(errors="ignore")
    return target.with_name(f".{beginning}.{_token()}{TEMPORARY_SUFFIX}")


def temporary_within(folder: Path) -> Path:
    """Return a hidden name in a folder for what is written there."""
    return folder / f".{_token()}{TEMPORARY_SUFFIX}"


def is_left_behind(path: Path) -> bool:
    """Return whether a name was given here by a process that is gone; POSIX only.

    What may belong to a living process, here or on another machine, is not; nor is any other name.
    """
    found = _TEMPORARY.fullmatch(path.name)
    return found is not None and found[1] == place() and not _is_alive(int(found[2]))


@cache
def place() -> str:
    """Return a short name of this machine, or of this container: where process numbers count."""
    machine = numbering = ""
    with contextlib.suppress(OSError):
        machine = _MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    with contextlib.suppress(OSError):
        numbering = str(Path("/proc/self/ns/pid").stat().st_ino)
    # machines that share a folder may share their name
    told = f"{platform.node()} {machine or uuid.getnode()} {numbering}"
    return hashlib.blake2b(told.encode(), digest_size=3).hexdigest()


def _token() -> str:
    """Return the part of a temporary name that tells who writes, and apart from anything else."""
    return f"{place()}-{os.getpid()}-{secrets.token_hex(6)}"


def _is_alive(process: int) -> bool:
    """Return whether a process of this machine runs, as far as we may know; POSIX only."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True
