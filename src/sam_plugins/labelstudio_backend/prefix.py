"""A backend below a path, as ``/sam``, behind a proxy that hands the path on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def below(application: WSGIApplication, prefix: str) -> WSGIApplication:
    """Return an application that answers below a path, and as ever without it.

    Health checks go past the proxy, and so does a proxy that takes the path off.

    Parameters
    ----------
    application : WSGI application
    prefix : str
        Such as ``"/sam"``; empty for none.
    """
    if not prefix:
        return application

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path == prefix or path.startswith(f"{prefix}/"):
            script = f"{environ.get('SCRIPT_NAME', '')}{prefix}"
            environ = {**environ, "SCRIPT_NAME": script, "PATH_INFO": path[len(prefix) :] or "/"}
        return application(environ, start_response)

    return answer
