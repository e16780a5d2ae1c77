"""Which pages in a browser may ask: those of this backend, by a name that it knows.

A page of another site tells its origin, and is refused by it. A page whose name was made to lead to
this backend after it was loaded (DNS rebinding) is of the same origin as the backend for the
browser: it says nothing but that name. So what a browser sends must name the backend by a number,
which nobody can make lead elsewhere, or by a name that the operator knows.

What does not look like a browser is never refused by a name: no page can make it ask, and Label
Studio, Prometheus and health checks reach a backend by names of containers and services that it
does not know itself. A browser is told by headers that pages can change and cannot leave out, for
it tells no origin with a GET to its own server, and ``Sec-Fetch-...`` over https and to this
machine only. A program that sends such headers too (Node's ``fetch``, a monitor that calls itself
``Mozilla/5.0``) cannot be told from one, and has to use a name that is known.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sam_plugins.labelstudio_backend.client import origin_of
from sam_plugins.labelstudio_backend.settings import Settings, host_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.datastructures import Headers

_SIGNS = ("Origin", "Accept-Language", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
_FOREIGN = (
    "a page of another site must not ask this backend; if it is a page of Label Studio, set "
    "SAM_PLUGINS_LS_URL to its address"
)


def why_refused(headers: Headers, settings: Settings, *, asks_password: bool) -> str | None:
    """Return why a request must not be answered, with what to do; None where it may be.

    Parameters
    ----------
    headers : Headers
        Of the request.
    settings : Settings
        With the names of the backend and the address of Label Studio.
    asks_password : bool
        Whether the server asks for a password before it answers, wherever that is set. Then any
        name will do: a browser gives the password of a name to no other name.
    """
    origin, host = headers.get("Origin"), headers.get("Host", "")
    if origin is not None and not _is_ours(origin, host, settings):
        return _FOREIGN
    if asks_password or not _is_of_browser(headers):
        return None
    name = host_name(host)
    if _is_number(name) or name in _known_names(settings) or name.endswith(".localhost"):
        return None
    return (
        f"this backend does not know that it is called {name[:100]!r}, and any page can give it a "
        f"name; add this one to SAM_PLUGINS_LS_HOST_NAMES, use the number of the machine in place "
        "of its name, or set SAM_PLUGINS_LS_USER and SAM_PLUGINS_LS_PASSWORD. Only what looks "
        "like a browser is refused, Label Studio is not"
    )


def guarded(
    application: WSGIApplication, settings: Settings, *, asks_password: bool
) -> WSGIApplication:
    """Return an application that refuses what :func:`why_refused` does, with 403 and the reason.

    For servers that are not ours; ours asks by itself.

    Parameters
    ----------
    application : WSGI application
    settings, asks_password
        As for :func:`why_refused`. A password in the settings is no proof that the application
        asks for one.
    """
    from werkzeug.datastructures import EnvironHeaders
    from werkzeug.wrappers import Response

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reason = why_refused(EnvironHeaders(environ), settings, asks_password=asks_password)
        if reason is None:
            return application(environ, start_response)
        body = json.dumps({"detail": reason})
        return Response(body, 403, mimetype="application/json")(environ, start_response)

    return answer


def _known_names(settings: Settings) -> set[str]:
    """Return the names that lead here, or to Label Studio, whose proxy may lead here."""
    urls = (settings.url, *settings.url_map, *settings.url_map.values())
    names = {"localhost", socket.gethostname().lower(), *settings.host_names, *map(host_name, urls)}
    return names - {""}


def _is_of_browser(headers: Headers) -> bool:
    """Return whether a browser sent a request, or something that looks like one."""
    if any(headers.get(name) is not None for name in _SIGNS):
        return True
    return headers.get("User-Agent", "").startswith("Mozilla/")


def _is_number(name: str) -> bool:
    """Return whether a host is named by its address."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_ours(origin: str, host: str, settings: Settings) -> bool:
    """Return whether a page that asks is one of this backend, or of Label Studio."""
    if origin.partition("://")[2].lower() == host.lower():
        return True
    try:
        asking = origin_of(origin)
        return any(origin_of(url) == asking for url in (settings.url, *settings.url_map) if url)
    except ValueError:
        return False
