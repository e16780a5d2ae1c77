"""Files appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from sam_plugins.errors import OutputError
from sam_plugins.model.io.temporary import temporary_beside, temporary_within

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
    errno.EBUSY: "another program has it open, or it is write-protected; close it there, or "
    "choose another folder",
}
_LONGEST_NAME = 255
_WINDOWS_REFUSALS = (5, 32)  # ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION


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
    temporary = temporary_beside(target)
    try:
        _create(temporary)
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


def link_or_copy(source: Path, path: Path) -> None:
    """Let a file keep what another one holds: both are one on the disk where that can be.

    Meant for files that are replaced as a whole and never changed in place.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.hardlink_to(source)
    except OSError:  # another disk, a file of somebody else, or no such links there
        try:
            with atomic_path(path) as temporary:
                shutil.copyfile(source, temporary)
        except OSError as error:
            raise output_error(path, error) from error


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises
    ------
    OutputError
        As :func:`atomic_path` would raise it in the end. Nothing is left behind.
    """
    target = Path(path)
    temporary = temporary_beside(target)
    try:
        refuse_folder(target)
        if _is_too_long(target.name):  # the temporary one is shorter
            raise output_error(target, OSError(errno.ENAMETOOLONG, ""))
        _create(temporary)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        _remove(temporary)


def require_writable_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that takes no files, before the work whose results it is to hold.

    Raises
    ------
    OutputError
        With the folder, the cause and what to do. Nothing is left behind.
    """
    temporary = temporary_within(Path(folder))
    try:
        _create(temporary)
    except OSError as error:
        raise output_error(Path(folder), error) from error
    finally:
        _remove(temporary)


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
        if not folder.exists():  # Windows says so of a file among the parents
            raise output_error(folder, NotADirectoryError(errno.ENOTDIR, "")) from error
        raise OutputError(
            f"cannot create the folder {folder}: a file of that name exists; choose another name"
        ) from error
    except OSError as error:
        if _cause(folder, error) == errno.ENOENT:  # "create it first" is what was tried
            place = next((one for one in folder.parents if one.exists()), folder.parent)
            raise OutputError(
                f"cannot create the folder {folder}: nothing can be made in {place}; choose "
                "another place"
            ) from error
        raise output_error(folder, error) from error
    return folder


@contextlib.contextmanager
def folder_for_results(folder: str | os.PathLike[str], *, beside: str = "") -> Iterator[Path]:
    """Create a folder as :func:`make_folder` does; remove it if the block fails and left nothing.

    Parameters
    ----------
    folder : path-like
        A folder that is there already stays, whatever happens.
    beside : str
        A file in it that is no result, such as a lock.

    Yields
    ------
    Path

    Raises
    ------
    OutputError
        If it cannot be created, or takes no files.
    """
    target = Path(folder)
    made = [one for one in (target, *target.parents) if not one.exists()]
    make_folder(target)
    try:
        require_writable_folder(target)
        yield target
    except BaseException:
        if made:
            remove_bare_folder(target, beside=beside)
            with contextlib.suppress(OSError):
                for one in made[1:]:
                    one.rmdir()
        raise


def remove_bare_folder(folder: Path, *, beside: str = "") -> None:
    """Remove a folder that holds no more than empty folders and the file ``beside``."""
    with contextlib.suppress(OSError):
        inside = [one for one in folder.iterdir() if one.name != beside]
        for one in inside:
            one.rmdir()  # fails where it is a file, or holds anything
        if beside:
            (folder / beside).unlink(missing_ok=True)
        folder.rmdir()


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error that tells the user why ``path`` cannot be written and what to do."""
    remedy = _REMEDIES.get(_cause(path, error))
    reason = remedy or f"{error.strerror or error}; try another folder"
    return OutputError(f"cannot write {path}: {reason}")


def _cause(path: Path, error: OSError) -> int:
    """Return the error number that POSIX has for what Windows may report under another one."""
    number = error.errno or 0
    if number in {errno.ENOENT, errno.EINVAL} and _is_too_long(path.name):
        return errno.ENAMETOOLONG
    with contextlib.suppress(OSError):
        if number == errno.ENOENT and any(parent.is_file() for parent in path.parents):
            return errno.ENOTDIR
        if getattr(error, "winerror", None) in _WINDOWS_REFUSALS:
            if path.is_dir():
                return errno.EISDIR
            if path.is_file():
                return errno.EBUSY
    return number


def refuse_folder(path: Path) -> None:
    """Refuse to replace a folder by a file."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):
            raise output_error(path, IsADirectoryError(errno.EISDIR, ""))


def _is_too_long(name: str) -> bool:
    """Return whether no file can have a name: Windows counts characters, others bytes."""
    return len(name if os.name == "nt" else os.fsencode(name)) > _LONGEST_NAME


def _create(path: Path) -> None:
    """Create an empty file with the permissions that any new file gets."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


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
