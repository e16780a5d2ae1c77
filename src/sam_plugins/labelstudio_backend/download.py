"""One GET after the other: every hop checked, connected to the address that was checked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import quote, urlsplit

from sam_plugins.errors import ImageError
from sam_plugins.labelstudio_backend.addresses import Where, checked_addresses, follow
from sam_plugins.labelstudio_backend.client import origin_of
from sam_plugins.labelstudio_backend.settings import Settings

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_CHUNK = 1 << 18
_CONNECT_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}
_MOST_ADDRESSES = 4
NOT_MODIFIED = 304
OF_SERVER = frozenset({None, 401, 502, 503, 504})
"""What a server that is down or refuses a token answers; others may, too, of one file."""


class DownloadFailedError(ImageError):
    """A picture cannot be fetched.

    Parameters
    ----------
    message : str
    status : int or None
        What the server answered.
    is_of_server : bool
        Whether the server is Label Studio, and this is what happens where it is down or refuses the
        token.
    is_worth_again : bool
        Whether the next moment may be better: not where it is too large, or took all the time.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        *,
        is_of_server: bool = False,
        is_worth_again: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_of_server = is_of_server
        self.is_worth_again = is_worth_again


@dataclass(frozen=True)
class Answer:
    """What a server sent.

    Parameters
    ----------
    status : int
        200, or 304 where nothing changed.
    content : bytes
    validators : mapping
        ``ETag`` and ``Last-Modified``, for asking again.
    """

    status: int
    content: bytes = b""
    validators: Mapping[str, str] = field(default_factory=dict)


def download(
    where: Where,
    settings: Settings,
    label_studio: str,
    *,
    authorise: Callable[[], Mapping[str, str]],
    validators: Mapping[str, str] | None = None,
    end: float | None = None,
) -> Answer:
    """Fetch a picture.

    Parameters
    ----------
    where : Where
    settings : Settings
        With limits and allowed hosts.
    label_studio : str
        Its address.
    authorise : callable
        Returns the header with the token; called only for Label Studio's own address.
    validators : mapping, optional
        Of an earlier answer: asks whether anything changed.
    end : float, optional
        By when it has to be there, in ``time.monotonic()``; as the settings say by default.

    Raises
    ------
    AddressError
        If the address or one that it redirects to may not be asked.
    DownloadFailedError
        If it cannot be fetched within the limits.
    """
    if end is None:
        end = time.monotonic() + settings.image_seconds
    for _ in range(_MOST_REDIRECTS + 1):
        addresses = checked_addresses(where, settings.allowed_hosts, label_studio)
        headers = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        headers |= dict(authorise()) if where.is_label_studio else {}
        if validators:
            headers |= _conditions(validators)
        with _opened(where, addresses, headers, settings, end) as response:
            if response.status in _REDIRECTS:
                location = response.headers.get("Location")
                if not location:
                    raise DownloadFailedError("a redirect of a picture leads nowhere", 502)
                where = follow(where, location, label_studio)
                continue
            if response.status == NOT_MODIFIED and validators:
                return Answer(NOT_MODIFIED)
            if response.status != 200:
                raise _refused(where, response.status)
            content = _body(where, response, settings, end)
            kept = {
                name: response.headers[name]
                for name in ("ETag", "Last-Modified")
                if response.headers.get(name)
            }
            return Answer(200, content, kept)
    raise DownloadFailedError(
        f"a picture is redirected more than {_MOST_REDIRECTS} times; correct its address"
    )


@contextlib.contextmanager
def _opened(
    where: Where, addresses: list[str], headers: Mapping[str, str], settings: Settings, end: float
) -> Iterator[HTTPResponse]:
    """Yield the answer of the first address that can be reached.

    The connection goes to the number that was checked, whatever the name means a moment later.
    """
    scheme, host, port = origin_of(where.url)
    reason: Exception | None = None
    for address in addresses[:_MOST_ADDRESSES]:
        if time.monotonic() >= end:
            break
        with contextlib.ExitStack() as opened:
            try:
                connection = opened.enter_context(_connected(scheme, host, address, port, end))
                named = {**headers, "Host": _host_header(scheme, host, port)}
                connection.request("GET", _target(where.url), headers=named)
                response = opened.enter_context(connection.getresponse())
            except (HTTPException, OSError, ValueError) as error:
                reason = error
                continue
            yield response
            return
    if time.monotonic() >= end:
        raise _too_slow(where, settings) from reason
    is_late = isinstance(reason, TimeoutError)
    raise DownloadFailedError(
        f"the picture at {scheme}://{host}:{port} cannot be fetched: "
        + ("it takes too long" if is_late else type(reason).__name__)
        + "; check that its server runs and can be reached from this backend",
        is_of_server=where.is_label_studio,
        is_worth_again=not is_late,
    ) from reason


@contextlib.contextmanager
def _connected(
    scheme: str, host: str, address: str, port: int, end: float
) -> Iterator[HTTPConnection]:
    """Yield a connection to an address that is cut when the time is over, whatever it waits for.

    A limit of a socket is one of each read: a server that sends a byte now and then keeps within it
    for ever.
    """
    connection = HTTPConnection(address, port)
    with contextlib.ExitStack() as opened:
        limit = min(max(end - time.monotonic(), 0.001), _CONNECT_SECONDS)
        plain = opened.enter_context(socket.create_connection((address, port), limit))
        left = max(end - time.monotonic(), 0.001)
        plain.settimeout(left)
        twin = opened.enter_context(plain.dup())  # TLS takes the other one over

        def cut() -> None:
            with contextlib.suppress(OSError):
                twin.shutdown(socket.SHUT_RDWR)

        watchdog = threading.Timer(left, cut)
        watchdog.daemon = True
        watchdog.start()
        opened.callback(watchdog.cancel)
        connection.sock = plain
        if scheme == "https":
            trusted = ssl.create_default_context()
            secure = trusted.wrap_socket(plain, server_hostname=host)
            connection.sock = opened.enter_context(secure)
        yield connection


def _host_header(scheme: str, host: str, port: int) -> str:
    """Return how a request names its host; a signature of a storage's address covers that.

    Examples
    --------
    >>> _host_header("https", "bucket.example", 443), _host_header("http", "::1", 8080)
    ('bucket.example', '[::1]:8080')
    """
    name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    return name if port == _PORTS[scheme] else f"{name}:{port}"


def _target(url: str) -> str:
    """Return what is asked of a server: path and query, letters quoted that no request may hold."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="%!$&'()*+,/:;=?@[]~", errors="replace")


def _body(where: Where, response: HTTPResponse, settings: Settings, end: float) -> bytes:
    """Return the content, unless it is too long, too slow or cut."""
    limit = settings.max_image_bytes
    expected = response.length
    too_large = DownloadFailedError(
        f"the picture is larger than {settings.max_image_mib:g} MiB; raise "
        "SAM_PLUGINS_LS_MAX_IMAGE_MIB, or make it smaller",
        is_worth_again=False,
    )
    if expected is not None and expected > limit:
        raise too_large
    content = bytearray()
    broken: Exception | None = None
    try:
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > limit:
                raise too_large
    except (HTTPException, OSError, ValueError) as error:
        broken = error
    is_whole = broken is None and (expected is None or len(content) == expected)
    if time.monotonic() >= end and not (is_whole and expected is not None):
        raise _too_slow(where, settings) from broken  # cut, which may look like an end
    if broken is not None:
        raise DownloadFailedError(
            f"the picture broke off after {len(content)} bytes ({type(broken).__name__}); try "
            "again",
            is_of_server=where.is_label_studio,
        ) from broken
    if not is_whole:
        raise DownloadFailedError(
            f"the picture has {len(content)} bytes, its server promised {expected}; try again",
            is_of_server=where.is_label_studio,
        )
    return bytes(content)


def _too_slow(where: Where, settings: Settings) -> DownloadFailedError:
    """Return the error of a picture that takes longer than it may."""
    return DownloadFailedError(
        f"the picture was not fetched within {settings.image_seconds:g} s; raise "
        "SAM_PLUGINS_LS_IMAGE_SECONDS, or use a faster server",
        is_of_server=where.is_label_studio,
        is_worth_again=False,
    )


def _refused(where: Where, status: int) -> DownloadFailedError:
    """Return the error of an answer that is no picture."""
    if where.is_label_studio and status == 401:
        why = "the token is missing, expired or disabled; set SAM_PLUGINS_LS_API_KEY"
    elif where.is_label_studio and status in {403, 404, 500}:
        why = (
            "the file is not there, or the token's user may not see it; files of local storage "
            "need a storage that covers their folder"
        )
    else:
        why = "check the address in the task's data"
    return DownloadFailedError(
        f"the picture's server answered {status}: {why}",
        status,
        is_of_server=where.is_label_studio and status in OF_SERVER,
    )


def _conditions(validators: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that ask whether anything changed."""
    names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    return {names[name]: value for name, value in validators.items() if name in names}
