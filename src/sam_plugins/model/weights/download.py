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
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
_CHUNK_BYTES = 1 << 16  # What a broken connection leaves of a chunk is lost.
_TIMEOUT_SECONDS = (10, 60)  # To connect, and between two chunks.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = (requests.codes.request_timeout, requests.codes.too_many_requests)
"""Answers below 500 after which a server may serve the same request later."""
_LONGEST_WAIT_SECONDS = 120.0
"""A server that asks for a longer pause (Retry-After) is given up: people would think it hangs."""
_STEP_SECONDS = 0.5  # Of a pause, between two chances to end it.


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
    transfer = _Transfer(
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


class _BrokenOffError(Exception):
    """The transfer ended before the announced size."""


@dataclass(frozen=True)
class _Transfer:
    """Brings one URL into one file, however often the connection breaks."""

    size_bytes: int
    size_is_exact: bool
    attempts: int
    wait_seconds: float
    show_progress: bool
    progress: Callable[[int, int], None] | None = None

    def __call__(self, url: str, part: Path) -> bool:
        """Fetch ``url`` and return whether the file begins with bytes of an earlier run.

        Raises
        ------
        HashMismatchError
            As soon as the file is longer than the published one.
        """
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {self.attempts}")
        furthest = part.stat().st_size if part.exists() else 0
        if self.size_is_exact and furthest > self.size_bytes:
            part.unlink()  # Of another version of the file.
            furthest = 0
        has_old_bytes = furthest > 0
        failures = 0
        while True:
            try:
                started_over = self._go_on(url, part)
            except (requests.RequestException, _BrokenOffError) as error:
                arrived = part.stat().st_size
                failures = 1 if arrived > furthest else failures + 1
                furthest = max(furthest, arrived)
                asked = _asked_seconds(error)
                if failures >= self.attempts or _is_refusal(error) or asked > _LONGEST_WAIT_SECONDS:
                    if arrived == 0:
                        part.unlink()
                    raise
                _LOG.info("download of %s interrupted (%s), trying again", url, error)
                self._pause(max(asked, self.wait_seconds * 2 ** (failures - 1)), arrived)
            else:
                return has_old_bytes and not started_over

    def _pause(self, seconds: float, arrived: int) -> None:
        """Wait, and tell of what has arrived meanwhile, so that a pause can be ended, too."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_SECONDS))
            if self.progress is not None:
                self.progress(arrived, max(arrived, self.size_bytes))

    def _go_on(self, url: str, part: Path) -> bool:
        """Ask for the bytes that ``part`` lacks and return whether the server began anew."""
        exact = self.size_bytes if self.size_is_exact else None
        with part.open("ab") as file:
            reply = _Reply(file, exact)
            headers = {"Accept-Encoding": "identity"}
            if file.tell():
                headers["Range"] = f"bytes={file.tell()}-"
            download = pooch.HTTPDownloader(
                progressbar=(
                    self.show_progress
                    if self.progress is None
                    else _Listener(self.progress, reply, self.size_bytes)
                ),
                chunk_size=_CHUNK_BYTES,
                timeout=_TIMEOUT_SECONDS,
                headers=headers,
                hooks={"response": reply},
            )
            try:
                download(url, _Bounded(file, exact), None)
            except requests.HTTPError:
                if not reply.has_nothing_left:
                    raise
            finally:
                reply.close()  # pooch leaves that to the garbage collector.
            arrived_bytes = file.tell()
        total_bytes = reply.total_bytes
        if total_bytes is None and reply.may_be_cut:
            total_bytes = exact
        if total_bytes is not None and arrived_bytes < total_bytes:
            raise _BrokenOffError(
                f"the connection broke off after {arrived_bytes} of {total_bytes} bytes; the "
                "next try goes on from there"
            )
        return reply.started_over


class _Bounded:
    """What pooch writes to: the file, up to the size that the published one has."""

    def __init__(self, file: BinaryIO, exact: int | None) -> None:
        self._file = file
        self._exact = exact

    def write(self, chunk: bytes) -> int:
        """Write a chunk, unless it is too much."""
        _require_size(self._file.tell() + len(chunk), self._exact)
        return self._file.write(chunk)

    def flush(self) -> None:
        """Hand over to the system what was written."""
        self._file.flush()


def _require_size(found: int, exact: int | None) -> None:
    """Refuse more bytes than the published file has."""
    if exact is not None and found > exact:
        raise HashMismatchError(f"it is another file: expected {exact} bytes, got {found} or more")


class _Listener:
    """What pooch takes for a progress bar; it counts what is in the file."""

    def __init__(
        self, progress: Callable[[int, int], None], reply: _Reply, size_bytes: int
    ) -> None:
        self.total = 0  # set by pooch, of what is still to come, 0 where the server does not say
        self._progress = progress
        self._reply = reply
        self._size_bytes = size_bytes

    def update(self, _: int) -> None:
        """Tell of bytes that have arrived."""
        arrived = self._reply.file.tell()
        self._progress(arrived, max(arrived, self._reply.total_bytes or self._size_bytes))

    def reset(self) -> None:
        """Begin the count anew; pooch does so at the end, only to fill the bar."""

    def close(self) -> None:
        """Take the bar away."""


class _Reply:
    """Reads the head of the server's answer, before pooch writes the body to ``file``."""

    def __init__(self, file: BinaryIO, exact: int | None) -> None:
        self.file = file
        self.total_bytes: int | None = None
        self.has_nothing_left = False
        self.started_over = False
        self._exact = exact
        self._response: requests.Response | None = None

    @property
    def may_be_cut(self) -> bool:
        """Whether nothing shows if an answer that tells no size has ended too early.

        A page that stands in the file's place is whole, and no beginning of it.
        """
        if self.has_nothing_left or self._response is None:
            return False
        return not self._response.headers.get("Content-Type", "").startswith("text/html")

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
            self._require_size(total)
            self.started_over = position > 0
            self.file.truncate(0)
            self.file.seek(0)
        elif response.status_code == requests.codes.partial:
            if not content_range.startswith(f"bytes {position}-"):
                raise requests.exceptions.InvalidHeader(
                    f"the server was asked for the bytes from {position} and sent {content_range!r}"
                )
            self._require_size(total)
        elif response.status_code == requests.codes.requested_range_not_satisfiable:
            # All has arrived, or too much, which the digest will show.
            self.has_nothing_left = True
        else:
            return
        self.total_bytes = int(total) if total.isdigit() else None

    def _require_size(self, total: str) -> None:
        """Refuse a file that is longer than the published one, before it is fetched."""
        if total.isdigit():
            _require_size(int(total), self._exact)


def _is_refusal(error: Exception) -> bool:
    """Whether the server said no, so that asking again is of no use."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    if response is None or response.status_code in _PASSING:
        return False
    return response.status_code < 500


def _asked_seconds(error: Exception) -> float:
    """Return the pause for which the server asks, in seconds or until a date; 0 for none."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    asked = "" if response is None else response.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())


def _reason(error: Exception) -> str:
    """Say in a few words what went wrong on the way."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        answer = f"the server answered {error.response.status_code} {error.response.reason}"
        asked = _asked_seconds(error)
        return f"{answer} and asks for a pause of {asked:.0f} s" if asked else answer
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off; the next try goes on from there"
    return str(error)
