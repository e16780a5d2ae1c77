"""One GET after the other: every hop checked, connected to the address that was checked."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import urllib3

from sam_plugins.errors import ImageError
from sam_plugins.labelstudio_backend.addresses import Where, checked_addresses, follow
from sam_plugins.labelstudio_backend.client import origin_of
from sam_plugins.labelstudio_backend.settings import Settings

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_CHUNK = 1 << 18
_CONNECT_SECONDS = 5.0
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
    """

    def __init__(
        self, message: str, status: int | None = None, *, is_of_server: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_of_server = is_of_server


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

    Raises
    ------
    AddressError
        If the address or one that it redirects to may not be asked.
    DownloadFailedError
        If it cannot be fetched within the limits.
    """
    deadline = time.monotonic() + settings.image_seconds
    for _ in range(_MOST_REDIRECTS + 1):
        addresses = checked_addresses(where, settings.allowed_hosts, label_studio)
        headers = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        headers |= dict(authorise()) if where.is_label_studio else {}
        if validators:
            headers |= _conditions(validators)
        with _opened(where, addresses, headers, deadline) as response:
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
            content = _body(where, response, settings, deadline)
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
    where: Where, addresses: list[str], headers: Mapping[str, str], deadline: float
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the answer of the first address that can be reached.

    The connection goes to the number that was checked, whatever the name means a moment later.
    """
    scheme, host, port = origin_of(where.url)
    parts = urlsplit(where.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    reason: Exception | None = None
    for address in addresses[:4]:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        timeout = urllib3.Timeout(connect=min(left, _CONNECT_SECONDS), read=left)
        pool: urllib3.HTTPConnectionPool
        if scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                address,
                port,
                timeout=timeout,
                server_hostname=host,
                assert_hostname=host,
                ssl_context=ssl.create_default_context(),
            )
        else:
            pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
        shown = host if port in {80, 443} else f"{host}:{port}"
        try:
            response = pool.request(
                "GET",
                target,
                headers={**headers, "Host": shown},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = error
            pool.close()
            continue
        try:
            yield response
        finally:
            response.close()
            pool.close()
        return
    is_late = reason is None or isinstance(reason, urllib3.exceptions.TimeoutError)
    raise DownloadFailedError(
        f"the picture at {scheme}://{host}:{port} cannot be fetched: "
        + ("it takes too long" if is_late else type(reason).__name__)
        + "; check that its server runs and can be reached from this backend",
        is_of_server=where.is_label_studio,
    ) from reason


def _body(
    where: Where, response: urllib3.BaseHTTPResponse, settings: Settings, deadline: float
) -> bytes:
    """Return the content, unless it is too long, too slow or cut."""
    limit = settings.max_image_bytes
    said = response.headers.get("Content-Length", "")
    expected = int(said) if said.isdigit() else None
    too_large = DownloadFailedError(
        f"the picture is larger than {settings.max_image_mib:g} MiB; raise "
        "SAM_PLUGINS_LS_MAX_IMAGE_MIB, or make it smaller"
    )
    if expected is not None and expected > limit:
        raise too_large
    content = bytearray()
    try:
        for chunk in response.stream(_CHUNK, decode_content=False):
            content += chunk
            if len(content) > limit:
                raise too_large
            if time.monotonic() > deadline:
                raise DownloadFailedError(
                    f"the picture was not fetched within {settings.image_seconds:g} s; raise "
                    "SAM_PLUGINS_LS_IMAGE_SECONDS, or use a faster server",
                    is_of_server=where.is_label_studio,
                )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise DownloadFailedError(
            f"the picture broke off after {len(content)} bytes ({type(error).__name__}); try again",
            is_of_server=where.is_label_studio,
        ) from error
    if expected is not None and len(content) != expected:
        raise DownloadFailedError(
            f"the picture has {len(content)} bytes, its server promised {expected}; try again",
            is_of_server=where.is_label_studio,
        )
    return bytes(content)


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
