"""Fetching the file of a named model: resumed, checked, and moved into place in one step."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import requests

from sam_plugins.errors import DownloadError, HashMismatchError, WeightsError
from sam_plugins.model.weights.hashing import file_digests, split_digest
from sam_plugins.model.weights.paths import (
    HOME_VARIABLE,
    OFFLINE_VARIABLE,
    is_offline,
)
from sam_plugins.model.weights.registry import ModelEntry
from sam_plugins.model.weights.transfer import BrokenOffError, Transfer, reason_of

_LOG = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fetch(
    entry: ModelEntry,
    directory: Path | None = None,
    *,
    verify_existing: bool = True,
    show_progress: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
    attempts: int = 4,
    wait_seconds: float = 1.0,
) -> Path:
    """Return the file of a named model, downloading it first where it is missing.

    The download is written to ``<file>.part``, continued with a Range request after an
    interruption, checked against the published digest and only then moved to its name, so that a
    file under its own name is whole. A lock beside it keeps two processes from writing at once:
    the second waits and finds the file.

    Parameters
    ----------
    entry : ModelEntry
        A model with at least one URL.
    directory : Path, optional
        Folder for the file; the cache folder by default.
    verify_existing : bool
        Check a file that is already there; False where the caller does so while reading it.
    show_progress : bool, optional
        Draw a bar on standard error; by default only on a terminal.
    progress : callable, optional
        Called often, with the bytes that have arrived and those in all, in place of the bar. An
        exception that it raises ends the download, and the next one goes on from there.
    attempts : int
        How many tries of a URL in a row may break off, each going on from what has arrived. A try
        that got further is the first of a new row.
    wait_seconds : float
        Pause before the second try in a row; it doubles with each further one, and is what the
        server asks for (Retry-After) where that is longer.

    Returns
    -------
    Path
        The file, checked but for one that is already there with ``verify_existing=False``.

    Raises
    ------
    DownloadError
        If there is no connection, the server refuses, the transfer breaks off each time, or the
        folder cannot be written. The message names the URL and the path at which to put the file
        by hand.
    HashMismatchError
        If the file differs from the published one.
    """
    if entry.is_shipped:
        raise ValueError(f"model {entry.name!r} comes with the package and has no URL")
    target = entry.path if directory is None else directory / entry.file_name
    if target.is_file():
        if verify_existing:
            verify(target, entry)
        return target
    if is_offline():
        raise DownloadError(
            f"{OFFLINE_VARIABLE} forbids connections and model {entry.name!r} is not on this "
            f"machine. {by_hand(entry, target)}"
        )
    transfer = Transfer(
        size_bytes=entry.size_bytes,
        size_is_exact=entry.size_is_exact,
        attempts=attempts,
        wait_seconds=wait_seconds,
        show_progress=sys.stderr.isatty() if show_progress is None else show_progress,
        progress=progress,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_room(entry, target)
        with _alone(target):
            if not target.is_file():  # Another process may have finished while we waited.
                _download(entry, target, transfer)
    except OSError as error:
        raise DownloadError(
            f"cannot write the weights of {entry.name!r} to {target.parent} "
            f"({error.strerror or error}). Free some space or choose another folder with the "
            f"environment variable {HOME_VARIABLE}."
        ) from error
    return target


def remove_download(entry: ModelEntry) -> Path:
    """Remove the file of a named model from this machine, and what a broken download left of it.

    Returns
    -------
    Path
        The file that is gone.

    Raises
    ------
    WeightsError
        If it comes with the package, is not on this machine, is just being downloaded, or may not
        be removed.
    """
    target = entry.path
    if entry.is_shipped:
        raise WeightsError(f"model {entry.name!r} comes with the package and stays with it")
    there = [one for one in (target, _part_of(target)) if one.is_file()]
    if not there:
        raise WeightsError(f"model {entry.name!r} is not on this machine; it would be at {target}")
    try:
        with filelock.FileLock(f"{target}.lock", timeout=0):
            for one in there:
                one.unlink(missing_ok=True)
    except filelock.Timeout as error:
        raise WeightsError(
            f"another program is downloading model {entry.name!r}; wait until it is done, or end it"
        ) from error
    except OSError as error:
        raise WeightsError(f"cannot remove {target}: {error.strerror or error}") from error
    return target


def by_hand(entry: ModelEntry, target: Path) -> str:
    """Return the sentence that tells how to bring the file over from another machine."""
    size = f"{entry.size_bytes / 1e6:.0f} MB"
    return (
        f"On a machine with a connection download {entry.urls[0]} ({size}, {entry.digest}) and "
        f"save it here as {target}"
    )


def verify(path: Path, entry: ModelEntry, digests: dict[str, str] | None = None) -> None:
    """Check a file against the digest of its entry; the shipped model's has none.

    Parameters
    ----------
    path : Path
        The file.
    entry : ModelEntry
        What it should be.
    digests : dict of str to str, optional
        Digests of the file by algorithm, where they are known already.

    Raises
    ------
    HashMismatchError
        If the file is another one.
    """
    if entry.digest is None:
        return
    algorithm, expected = split_digest(entry.digest)
    found = (digests or file_digests(path, [algorithm]))[algorithm]
    if found != expected:
        raise HashMismatchError(
            f"{path} is not the published file of model {entry.name!r}: expected "
            f"{algorithm}:{expected}, got {algorithm}:{found} ({path.stat().st_size} "
            f"bytes{_what_it_is(path)}). Delete it and download it again from {entry.urls[0]}"
        )


def _what_it_is(path: Path) -> str:
    """Say so when a login or proxy page was saved instead of the file."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    return ", a web page" if start.startswith((b"<!doctype", b"<html")) else ""


def _require_room(entry: ModelEntry, target: Path) -> None:
    """Refuse before a download that the disk cannot hold."""
    part = _part_of(target)
    missing = entry.size_bytes - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(target.parent).free
    if free < missing:
        raise DownloadError(
            f"the weights of {entry.name!r} need {missing / 1e6:.0f} MB more in {target.parent}, "
            f"where {free / 1e6:.0f} MB are free. Free some space or choose another folder with "
            f"the environment variable {HOME_VARIABLE}."
        )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the lock beside a file; on a disk that knows none the digest must show a clash."""
    lock = filelock.FileLock(f"{target}.lock")
    try:
        lock.acquire()
    except NotImplementedError:  # Newer releases of filelock lock in another way there.
        _LOG.warning("the disk of %s knows no locks: do not download twice at once", target.parent)
    try:
        yield
    finally:
        lock.release()


def _part_of(target: Path) -> Path:
    """Return the name under which a file grows."""
    return target.with_name(target.name + ".part")


def _download(entry: ModelEntry, target: Path, transfer: Transfer) -> None:
    """Try each URL in turn; what has arrived serves the next attempt."""
    part = _part_of(target)
    for position, url in enumerate(entry.urls):
        is_last = position + 1 == len(entry.urls)
        try:
            _download_verified(entry, url, part, transfer)
        except HashMismatchError as error:
            if is_last:
                found = str(error).partition(": ")[2].partition(". Delete")[0]
                raise HashMismatchError(
                    f"{url} did not deliver the published file of model {entry.name!r}: {found}. "
                    f"What arrived was discarded. {by_hand(entry, target)}"
                ) from error
        except (requests.RequestException, BrokenOffError) as error:
            if is_last:
                raise DownloadError(
                    f"could not download model {entry.name!r} from {url}: {reason_of(error)}. "
                    f"{by_hand(entry, target)}"
                ) from error
        except OSError as error:
            if error.errno in _FULL:
                part.unlink(missing_ok=True)  # Leave the disk as it was.
            raise
        else:
            part.replace(target)
            return


def _download_verified(entry: ModelEntry, url: str, part: Path, transfer: Transfer) -> None:
    """Fetch one URL into ``part`` and check it; a bad file does not stay."""
    try:
        has_old_bytes = transfer(url, part)
    except HashMismatchError:  # Too long, so not the one, whatever an earlier run left.
        part.unlink(missing_ok=True)
        raise
    try:
        verify(part, entry)
    except HashMismatchError:
        part.unlink()
        if not has_old_bytes:
            raise
        # What an earlier run left may come from another version of the file.
        _LOG.warning("the continued download of %s does not check out, starting again", url)
        transfer(url, part)
        try:
            verify(part, entry)
        except HashMismatchError:
            part.unlink()
            raise
