"""Fetching the file of a named model: resumed, checked, and moved into place in one step."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import filelock
import pooch
import requests

from sam_plugins.errors import DownloadError, HashMismatchError, WeightsError
from sam_plugins.model.weights.hashing import file_digests, split_digest
from sam_plugins.model.weights.paths import (
    HOME_VARIABLE,
    OFFLINE_VARIABLE,
    is_offline,
)
from sam_plugins.model.weights.registry import ModelEntry

_LOG = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = (10, 60)  # To connect, and between two chunks.
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fetch(
    entry: ModelEntry,
    directory: Path | None = None,
    *,
    allow_unverified: bool = False,
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
    allow_unverified : bool
        Accept a file that cannot be checked, because its publisher gives no digest.
    verify_existing : bool
        Check a file that is already there; False where the caller does so while reading it.
    show_progress : bool, optional
        Draw a bar on standard error; by default only on a terminal.
    progress : callable, optional
        Called often, with the bytes that have arrived and those in all, in place of the bar. An
        exception that it raises ends the download, and the next one goes on from there.
    attempts : int
        How often each URL is tried, each time going on from what has arrived.
    wait_seconds : float
        Pause before the second attempt; it doubles with each further one.

    Returns
    -------
    Path
        The file, checked unless that was waived.

    Raises
    ------
    DownloadError
        If there is no connection, the server refuses, the transfer breaks off each time, or the
        folder cannot be written. The message names the URL and the path at which to put the file
        by hand.
    HashMismatchError
        If the file differs from the published one.
    WeightsError
        If the file cannot be checked and ``allow_unverified`` is False.
    """
    if entry.is_shipped:
        raise ValueError(f"model {entry.name!r} comes with the package and has no URL")
    target = entry.path if directory is None else directory / entry.file_name
    require_verifiable(entry, allow_unverified=allow_unverified)
    if target.is_file():
        if verify_existing:
            verify(target, entry)
        return target
    if is_offline():
        raise DownloadError(
            f"{OFFLINE_VARIABLE} forbids connections and model {entry.name!r} is not on this "
            f"machine. {by_hand(entry, target)}"
        )
    transfer = _Transfer(
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
    check = f", {entry.digest}" if entry.digest else ""
    return (
        f"On a machine with a connection download {entry.urls[0]} ({size}{check}) and save it here "
        f"as {target}"
    )


def require_verifiable(entry: ModelEntry, *, allow_unverified: bool) -> None:
    """Refuse a model without a published digest unless that was waived.

    Raises
    ------
    WeightsError
        If there is nothing to check the file against.
    """
    if entry.digest is None and not allow_unverified:
        raise WeightsError(
            f"the file of model {entry.name!r} cannot be verified: its publisher gives no "
            "checksum. Pass allow_unverified=True (--allow-unverified) to use it all the same."
        )


def verify(path: Path, entry: ModelEntry, digests: dict[str, str] | None = None) -> None:
    """Check a file against the digest of its entry; an entry without one is accepted.

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


def _download(entry: ModelEntry, target: Path, transfer: _Transfer) -> None:
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
        except (requests.RequestException, _BrokenOffError) as error:
            if is_last:
                raise DownloadError(
                    f"could not download model {entry.name!r} from {url}: {_reason(error)}. "
                    f"{by_hand(entry, target)}"
                ) from error
        except OSError as error:
            if error.errno in _FULL:
                part.unlink(missing_ok=True)  # Leave the disk as it was.
            raise
        else:
            part.replace(target)
            return


def _download_verified(entry: ModelEntry, url: str, part: Path, transfer: _Transfer) -> None:
    """Fetch one URL into ``part`` and check it; a bad file does not stay."""
    has_old_bytes = transfer(url, part)
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


class _BrokenOffError(Exception):
    """The transfer ended before the announced size."""


@dataclass(frozen=True)
class _Transfer:
    """Brings one URL into one file, however often the connection breaks."""

    attempts: int
    wait_seconds: float
    show_progress: bool
    progress: Callable[[int, int], None] | None = None

    def __call__(self, url: str, part: Path) -> bool:
        """Fetch ``url`` and return whether the file begins with bytes of an earlier run."""
        has_old_bytes = part.exists() and part.stat().st_size > 0
        for attempt in range(1, self.attempts + 1):
            try:
                started_over = self._go_on(url, part)
            except (requests.RequestException, _BrokenOffError) as error:
                if attempt == self.attempts or _is_refusal(error):
                    if part.stat().st_size == 0:
                        part.unlink()
                    raise
                _LOG.info("download of %s interrupted (%s), trying again", url, error)
                time.sleep(self.wait_seconds * 2 ** (attempt - 1))
            else:
                return has_old_bytes and not started_over
        raise ValueError(f"attempts must be 1 or more, got {self.attempts}")

    def _go_on(self, url: str, part: Path) -> bool:
        """Ask for the bytes that ``part`` lacks and return whether the server began anew."""
        with part.open("ab") as file:
            reply = _Reply(file)
            headers = {"Accept-Encoding": "identity"}
            if file.tell():
                headers["Range"] = f"bytes={file.tell()}-"
            download = pooch.HTTPDownloader(
                progressbar=(
                    self.show_progress
                    if self.progress is None
                    else _Listener(self.progress, file.tell())
                ),
                chunk_size=_CHUNK_BYTES,
                timeout=_TIMEOUT_SECONDS,
                headers=headers,
                hooks={"response": reply},
            )
            try:
                download(url, file, None)
            except requests.HTTPError:
                if not reply.has_nothing_left:
                    raise
            finally:
                reply.close()  # pooch leaves that to the garbage collector.
            arrived_bytes = file.tell()
        if reply.total_bytes is not None and arrived_bytes < reply.total_bytes:
            raise _BrokenOffError(
                f"the connection broke off after {arrived_bytes} of {reply.total_bytes} bytes; the "
                "next try goes on from there"
            )
        return reply.started_over


class _Listener:
    """What pooch takes for a progress bar."""

    def __init__(self, progress: Callable[[int, int], None], already: int) -> None:
        self.total = 0  # set by pooch, of what is still to come
        self._progress = progress
        self._already = already
        self._arrived = 0

    def update(self, count: int) -> None:
        """Tell of bytes that have arrived."""
        self._arrived = min(self._arrived + count, self.total)
        self._progress(self._already + self._arrived, self._already + self.total)

    def reset(self) -> None:
        """Begin the count anew; pooch does so at the end, only to fill the bar."""
        self._arrived = 0

    def close(self) -> None:
        """Take the bar away."""


class _Reply:
    """Reads the head of the server's answer, before pooch writes the body to ``file``."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.total_bytes: int | None = None
        self.has_nothing_left = False
        self.started_over = False
        self._response: requests.Response | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()

    def __call__(self, response: requests.Response, *_: object, **__: object) -> None:
        """Find out the size of the whole file, and whether the server continues or begins anew."""
        self._response = response
        position = self.file.tell()
        content_range = response.headers.get("Content-Range", "")
        total = content_range.rpartition("/")[2]
        if response.status_code == requests.codes.ok:  # All of it, whatever we asked for.
            total = response.headers.get("Content-Length", "")
            self.started_over = position > 0
            self.file.truncate(0)
            self.file.seek(0)
        elif response.status_code == requests.codes.partial:
            if not content_range.startswith(f"bytes {position}-"):
                raise requests.exceptions.InvalidHeader(
                    f"the server was asked for the bytes from {position} and sent {content_range!r}"
                )
        elif response.status_code == requests.codes.requested_range_not_satisfiable:
            # All has arrived, or too much, which the digest will show.
            self.has_nothing_left = True
        else:
            return
        self.total_bytes = int(total) if total.isdigit() else None


def _is_refusal(error: Exception) -> bool:
    """Whether the server said no, so that asking again is of no use."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    return response is not None and response.status_code < 500


def _reason(error: Exception) -> str:
    """Say in a few words what went wrong on the way."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off; the next try goes on from there"
    return str(error)
