"""Files appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from sam_plugins.errors import OutputError

if sys.platform != "win32":
    import fcntl

TEMPORARY_SUFFIX = ".part"
"""Ending of the hidden files and folders of what is being written; an old one may be deleted."""

# Where it is written, by which process, and a random number.
_TEMPORARY = re.compile(
    rf"\.(?:.+\.)?([0-9a-f]{{6}})-(\d+)-[0-9a-f]{{12}}{re.escape(TEMPORARY_SUFFIX)}"
)

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
_MACHINE_ID = Path("/etc/machine-id")
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
    temporary = _temporary_name(target)
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


@contextlib.contextmanager
def files_together(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """Write files that belong together; they get their names when all of them are complete.

    Parameters
    ----------
    paths : sequence of path-like
        Files of one folder, in the order in which they appear. Older files of these names stay
        untouched until all new ones are complete.

    Yields
    ------
    list of Path
        Where to write them: the same names, in the same order, in a hidden folder beside.

    Raises
    ------
    OutputError
        If a file cannot be written; the older ones are as they were then.
    ValueError
        If there are no paths, or of more than one folder.

    Notes
    -----
    No file system renames several files in one step. The older ones are set aside, the last of
    ``paths`` first, then the new ones take their places, the first of ``paths`` first; an
    exception in between, Ctrl-C included, is followed by the way back. Only a machine that stops in
    this moment can leave a part of them, and the first of ``paths`` is in every such part.

    Processes that write the same files take turns: the last one has all of them.
    """
    targets = [Path(path) for path in paths]
    if len({target.parent for target in targets}) != 1:
        raise ValueError(f"paths must be files of one folder, got {[str(t) for t in targets]}")
    folder = targets[0].parent
    staging = folder / f".{_token()}{TEMPORARY_SUFFIX}"
    new, old = staging / "new", staging / "old"
    try:
        for made in (staging, new, old):
            made.mkdir()
        yield [new / target.name for target in targets]
        with taking_turns(folder):
            _exchange(targets, new, old)
        shutil.rmtree(old, ignore_errors=True)
    except OutputError as error:
        raise OutputError(str(error).replace(str(new), str(folder))) from error
    except OSError as error:
        raise output_error(targets[0], error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for made in (old, staging):
            # not empty only where an older file could not be put back: it is kept
            with contextlib.suppress(OSError):
                made.rmdir()


@contextlib.contextmanager
def taking_turns(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait while another process gives files of a folder their names; the next one waits for us.

    On Windows, and on file systems without locks, nobody waits.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # the work itself meets it, too, and says which file it is about
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back, as does the end of the process


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Finish or remove what processes that were killed have left in a folder.

    Parameters
    ----------
    folder : path-like
        Its hidden files and folders of this module, made on this machine by a process that is
        gone, are removed. Where a process was killed while files of :func:`files_together` got
        their names, the rest of them get theirs; once somebody has made one of them again, only
        those that are missing. What may belong to a living process, here or on another machine,
        stays; so does everything on Windows, which cannot tell.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError), taking_turns(folder):
        for path in sorted(Path(folder).glob(f".*{TEMPORARY_SUFFIX}")):
            found = _TEMPORARY.fullmatch(path.name)
            if found is not None and found[1] == _place() and not _is_alive(int(found[2])):
                _clear(path)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises
    ------
    OutputError
        As :func:`atomic_path` would raise it in the end. Nothing is left behind.
    """
    target = Path(path)
    temporary = _temporary_name(target)
    try:
        _refuse_folder(target)
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
    temporary = Path(folder) / f".{_token()}{TEMPORARY_SUFFIX}"
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
        raise output_error(folder, error) from error
    return folder


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


def _exchange(targets: Sequence[Path], new: Path, old: Path) -> None:
    """Set the older files aside and name the new ones, or leave everything as it was."""
    moves: list[tuple[Path, Path]] = []

    def move(source: Path, destination: Path, named: Path) -> None:
        moves.append((source, destination))  # noted first: Ctrl-C may come right after the move
        try:
            source.replace(destination)
        except OSError as error:
            raise output_error(named, error) from error

    try:
        for target in reversed(targets):
            _refuse_folder(target)
            if target.exists():
                with _vanishing(target):
                    move(target, old / target.name, target)
        for target in targets:
            move(new / target.name, target, target)
    except BaseException:
        for source, destination in reversed(moves):
            with contextlib.suppress(OSError):
                if not source.exists():
                    destination.replace(source)
        raise


@contextlib.contextmanager
def _vanishing(path: Path) -> Iterator[None]:
    """Go on where a file to set aside is gone: another process, without locks, was quicker."""
    try:
        yield
    except OutputError:
        if path.exists() or not path.parent.is_dir():
            raise


def _clear(leftover: Path) -> None:
    """Remove a temporary file, or a folder of :func:`files_together`, finishing what it began."""
    if not leftover.is_dir():
        _remove(leftover)
        return
    new, old = leftover / "new", leftover / "old"
    if old.is_dir() and any(old.iterdir()):
        if not new.is_dir():
            return  # an older file that could not be put back is kept
        # older files are set aside when all new ones are complete
        places = {path: leftover.parent / path.name for path in new.iterdir()}
        is_made_anew = any(
            place.exists() and (old / place.name).exists() for place in places.values()
        )
        for path, place in places.items():
            if not (is_made_anew and place.exists()):
                path.replace(place)
    shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(process: int) -> bool:
    """Return whether a process of this machine runs, as far as we may know; POSIX only."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True


@cache
def _place() -> str:
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
    return f"{_place()}-{os.getpid()}-{secrets.token_hex(6)}"


def _refuse_folder(path: Path) -> None:
    """Refuse to replace a folder by a file."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):
            raise output_error(path, IsADirectoryError(errno.EISDIR, ""))


def _temporary_name(target: Path) -> Path:
    """Return the hidden name beside a file under which it is written."""
    beginning = os.fsencode(target.name)[:100].decode(errors="ignore")
    return target.with_name(f".{beginning}.{_token()}{TEMPORARY_SUFFIX}")


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
