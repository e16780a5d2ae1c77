"""Files appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from sam_plugins.errors import OutputError

TEMPORARY_SUFFIX = ".part"
"""Ending of the hidden files that are being written; whoever finds an old one may delete it."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EACCES: "you may not write there; choose another folder",
    errno.EPERM: "you may not write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "a folder of that name exists; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, flush: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name, and give it its name when it is complete.

    Parameters
    ----------
    path : path-like
        The file to write. An older file of that name stays untouched until the new one is complete.

    flush : bool
        Wait until the content is on the disk before the file gets its name, so that a power cut
        leaves the old or the new one. Not worth its time for what can be checked and computed
        again.

    Yields
    ------
    Path
        An empty file in the same folder, to be written and closed within the ``with`` block.

    Raises
    ------
    OutputError
        If the file cannot be written; the message names it, the cause and what to do.

    Notes
    -----
    When the block is left by any exception, Ctrl-C included, the temporary file is removed. The new
    file gets the permissions that any new file gets (those of :mod:`tempfile` would lock colleagues
    out).
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if flush:
            _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        _remove(temporary)
        raise output_error(target, error) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a whole file at once, complete or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder for results, with its parents, where it does not exist yet.

    Raises
    ------
    OutputError
        If it cannot be created.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(
            f"cannot create the folder {folder}: a file of that name exists; choose another name"
        ) from error
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error that tells the user why ``path`` cannot be written and what to do."""
    remedy = _REMEDIES.get(error.errno or 0)
    reason = remedy or f"{error.strerror or error}; try another folder"
    return OutputError(f"cannot write {path}: {reason}")


def _flush(path: Path) -> None:
    """Wait until the content is on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a temporary file, if it is there and may be removed."""
    with contextlib.suppress(OSError):
        path.unlink()
