"""Where pictures may be fetched from: an address is judged by where it leads, not by its name."""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit

from sam_plugins.errors import ImageError
from sam_plugins.labelstudio_backend.client import origin_of

STORAGE_SCHEMES = ("s3", "gs", "azure-blob", "azure_spi", "azure-spi")
"""Of cloud storages: Label Studio resolves them."""

_OWN_PATHS = ("/data/", "/storage-data/", "/tasks/", "/static/", "/media/")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressError(ImageError):
    """A picture's address is not one that this backend fetches."""


@dataclass(frozen=True)
class Where:
    """Where a picture is.

    Parameters
    ----------
    url : str
        Absolute http(s) address, or ``data:``.
    is_label_studio : bool
        Whether it is Label Studio's own, so that the token may go there.
    is_fixed : bool
        Whether its content can never change.
    """

    url: str
    is_label_studio: bool = False
    is_fixed: bool = False


def locate(url: str, label_studio: str, task: str) -> Where:
    """Return where a picture is that a task names.

    Parameters
    ----------
    url : str
        As it stands in the task's data.
    label_studio : str
        Address of Label Studio; empty where it is not known.
    task : str
        Number of the task, through which Label Studio resolves storages.

    Raises
    ------
    AddressError
        If the scheme is another, or the path climbs.
    """
    url = url.strip()
    scheme = urlsplit(url).scheme.lower() if "://" in url else ""
    if url[:5].lower() == "data:":
        return Where(url, is_fixed=True)
    if scheme in STORAGE_SCHEMES:
        encoded = base64.urlsafe_b64encode(url.encode()).decode()
        if not task:
            raise AddressError(
                f"{scheme}:// pictures are resolved through their task, and this request names "
                "none; import the picture into a project"
            )
        path = f"/tasks/{quote(task, safe='')}/resolve/?fileuri={quote(encoded, safe='=')}"
        return Where(_base(label_studio, f"{scheme}://") + path, is_label_studio=True)
    if scheme in {"http", "https"}:
        where = Where(url, is_label_studio=_is_same(url, label_studio))
    elif not scheme and url.startswith("/") and not url.startswith("//"):
        base = _base(label_studio, "a path")
        prefix = urlsplit(base).path
        if prefix and url.startswith(f"{prefix}/"):
            url = url.removeprefix(prefix)
        where = Where(base + url, is_label_studio=True)
    else:
        shown = f"{scheme}://" if scheme else repr(url[:60])
        raise AddressError(
            "a picture must be http(s)://, data:, s3://, gs://, azure-blob:// or a path on Label "
            f"Studio, got {shown}"
        )
    parts = _parts(where.url)
    if where.is_label_studio:
        _check_path(parts.path, parts.query, urlsplit(label_studio).path.rstrip("/"))
    is_upload = where.is_label_studio and (
        "/data/upload/" in parts.path or "filepath=upload" in unquote(parts.query)
    )
    return Where(where.url, where.is_label_studio, is_fixed=is_upload)


def follow(where: Where, location: str, label_studio: str) -> Where:
    """Return where a redirect leads; the token goes along only to Label Studio itself.

    Raises
    ------
    AddressError
        If it leads to something else than http(s), or to what on Label Studio is no picture.
    """
    url = urljoin(where.url, location)
    scheme = url.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise AddressError(f"a redirect to {scheme}: is not followed; correct the address")
    parts = _parts(url)
    is_label_studio = _is_same(url, label_studio)
    if is_label_studio:
        _check_path(parts.path, parts.query, urlsplit(label_studio).path.rstrip("/"))
    return Where(url, is_label_studio, is_fixed=where.is_fixed)


def checked_addresses(where: Where, allowed_hosts: Sequence[str], label_studio: str) -> list[str]:
    """Return the addresses of a host, all of them such as may be asked.

    Parameters
    ----------
    where : Where
    allowed_hosts : sequence of str
        Whose private addresses are no obstacle.
    label_studio : str
        The same holds for its host and port.

    Raises
    ------
    AddressError
        If the host is unknown, or one of its addresses is private, local, or otherwise not of the
        public internet.
    """
    _, host, port = origin_of(where.url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"the host {host!r} of a picture is not known; correct it") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    is_trusted = _is_same(where.url, label_studio) or host in {
        allowed.lower() for allowed in allowed_hosts
    }
    if not is_trusted:
        for address in addresses:
            if not is_public(address):
                raise AddressError(
                    f"the host {host!r} of a picture has the address {address}, which is private; "
                    "if it shall be asked, add it to SAM_PLUGINS_LS_ALLOWED_HOSTS"
                )
    return addresses


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, by whatever way it is written.

    Examples
    --------
    >>> is_public("8.8.8.8"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _parts(url: str) -> SplitUrl:
    """Return the parts of an address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AddressError(f"the address of a picture cannot be read: {error}") from error
    if not parts.hostname:
        raise AddressError("the address of a picture names no host; correct it")
    if parts.username or parts.password:
        raise AddressError(
            "the address of a picture must not hold a user or a password; take them out"
        )
    if any(ord(sign) < 33 or ord(sign) == 127 for sign in url):
        raise AddressError("the address of a picture holds spaces or control signs; quote them")
    return SplitUrl(parts.scheme, parts.path, parts.query)


@dataclass(frozen=True)
class SplitUrl:
    """Scheme, path and query of an address."""

    scheme: str
    path: str
    query: str


def _check_path(path: str, query: str, prefix: str) -> None:
    """Refuse paths that climb, and those of Label Studio that hold no pictures."""
    named = [path, *(value for values in parse_qs(query).values() for value in values)]
    for text in named:
        plain = unquote(unquote(text)).replace("\\", "/")
        if ".." in plain.split("/") or "\0" in plain:
            raise AddressError(
                f"the address of a picture climbs out of its folder: {path[:80]!r}; correct it"
            )
    inside = path.removeprefix(prefix) if prefix else path
    if not inside.startswith(_OWN_PATHS):
        raise AddressError(
            f"{path[:80]!r} is no place of pictures on Label Studio, which are below "
            f"{', '.join(_OWN_PATHS[:3])}"
        )


def _is_same(url: str, label_studio: str) -> bool:
    """Return whether an address is Label Studio's own."""
    try:
        return bool(label_studio) and origin_of(url) == origin_of(label_studio)
    except ValueError:
        return False


def _base(label_studio: str, what: str) -> str:
    """Return Label Studio's address, or say that it is needed."""
    if not label_studio:
        raise AddressError(
            f"{what} is resolved by Label Studio, whose address is not known; set "
            "SAM_PLUGINS_LS_URL and SAM_PLUGINS_LS_API_KEY"
        )
    return label_studio.rstrip("/")
