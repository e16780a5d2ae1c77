"""One URL into one file over HTTP, gone on with however often the connection breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

import pooch
import requests

from sam_plugins.errors import HashMismatchError

_LOG = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 16  # What a broken connection leaves of a chunk is lost.
_TIMEOUT_SECONDS = (10, 60)  # To connect, and between two chunks.
_PASSING = (requests.codes.request_timeout, requests.codes.too_many_requests)
"""Answers below 500 after which a server may serve the same request later."""
_LONGEST_WAIT_SECONDS = 120.0
"""A server that asks for a longer pause (Retry-After) is given up: people would think it hangs."""
_STEP_SECONDS = 0.5  # Of a pause, between two chances to end it.


class BrokenOffError(Exception):
    """The transfer ended before the announced size."""


@dataclass(frozen=True)
class Transfer:
    """Brings one URL into one file, however often the connection breaks.

    Parameters
    ----------
    size_bytes : int
        Of the published file.
    size_is_exact : bool
        Whether a file of another size is another file, or the size is only what to expect.
    attempts, wait_seconds, show_progress, progress
        As of :func:`~sam_plugins.model.weights.download.fetch`.
    """

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
        BrokenOffError, requests.RequestException
            If the last try of a row breaks off, or the server refuses. What arrived stays.
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
            except (requests.RequestException, BrokenOffError) as error:
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
            raise BrokenOffError(
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


def reason_of(error: Exception) -> str:
    """Say in a few words what went wrong on the way, for the message that people read."""
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
