"""Starting the server: gunicorn where there is one, waitress elsewhere.

One process with many threads: embeddings, sessions and the model's lane are shared by all requests,
and the network uses all cores by itself. Gunicorn replaces the process when it dies.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import ListenError, MissingExtraError, how_to_install
from sam_plugins.labelstudio_backend import logs
from sam_plugins.labelstudio_backend.access import what_is_missing
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from flask import Flask

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LAST_PORT = 65535
_SECONDS = 120
"""Label Studio waits for 100 at most."""


def gunicorn_options(host: str, port: int, settings: Settings) -> dict[str, Any]:
    """Return the configuration for gunicorn.

    Parameters
    ----------
    host, port
        Where to listen.
    settings : Settings
        With the number of threads.
    """
    return {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": 1,
        "threads": settings.threads,
        "worker_class": "gthread",
        "timeout": _SECONDS,
        "graceful_timeout": 30,
        "keepalive": 5,
        "limit_request_line": 8190,
        "worker_tmp_dir": "/dev/shm" if sys.platform == "linux" else None,  # noqa: S108
        # torch must not be loaded before a fork: threads and GPUs do not survive one
        "preload_app": False,
        "proc_name": "sam-plugins",
        # of gunicorn 25 and later: a door into the server, one for all servers of a user
        "control_socket_disable": True,
        "post_worker_init": _drain_when_told_to_end,
        "worker_exit": _close,
    }


def build() -> Flask:
    """Return the application of this process, with its log; what gunicorn's worker calls."""
    settings = Settings()
    _configure_log(settings)
    return _made(settings)


def _made(settings: Settings) -> Flask:
    """Return the application.

    PyTorch comes with it: gunicorn's first process, which only looks after the one that answers,
    starts and ends at once without.
    """
    from sam_plugins.labelstudio_backend.learning.creating import learning_app

    return learning_app(settings)


def require_address(host: str, port: int) -> None:
    """Check that a server can listen there, before one tries and fills the log.

    Raises
    ------
    ListenError
        If it cannot; says what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(
            f"this machine does not know the host {host!r}; listen on 127.0.0.1, or on 0.0.0.0 for "
            "every address of this machine"
        ) from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # as servers do; elsewhere it would take the port from another
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {host}, port {port}: {_listening_remedy(error, port)}"
            ) from error


def _listening_remedy(error: OSError, port: int) -> str:
    """Return why a server cannot listen, and what to do."""
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < _LAST_PORT else port - 1
        return (
            "another program listens there, perhaps a backend that runs already; end it, or choose "
            f"another port (--port {other}) and name that in Label Studio"
        )
    if error.errno == errno.EACCES:
        return "ports below 1024 are not for everybody; choose another one, such as --port 9090"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            "this machine has no such address; listen on 127.0.0.1, or on 0.0.0.0 for every "
            "address of this machine"
        )
    return error.strerror or str(error)


def serve(
    host: str,
    port: int,
    settings: Settings | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Listen until the process is told to end.

    Parameters
    ----------
    host : str
    port : int
    settings : Settings, optional
        From the environment by default.
    tell : callable
        Told where it listens, and what does not work without Label Studio's address and token.

    Raises
    ------
    MissingExtraError
        If no server is installed.
    ListenError
        If it cannot listen there.
    """
    settings = settings or Settings()
    settings = settings.model_copy(update={"host_names": (*settings.host_names, host.lower())})
    require_address(host, port)
    shown = f"[{host}]" if ":" in host else host
    tell(f"the backend listens on http://{shown}:{port}, its status is at /status")
    if missing := what_is_missing(settings):
        tell(missing)
    _configure_log(settings)
    if host not in _LOOPBACK and not settings.asks_password:
        LOG.warning(
            "everybody who reaches %s:%s may use this backend; set SAM_PLUGINS_LS_USER and "
            "SAM_PLUGINS_LS_PASSWORD",
            host,
            port,
        )
    if importlib.util.find_spec("gunicorn") is not None and sys.platform != "win32":
        _with_gunicorn(host, port, settings)
    elif importlib.util.find_spec("waitress") is not None:
        _with_waitress(host, port, settings)
    else:
        raise MissingExtraError(f"the backend needs a server; {how_to_install('labelstudio')}")


def _configure_log(settings: Settings) -> None:
    """Write the log as the settings say."""
    secrets = (settings.api_key, settings.password, settings.webhook_secret)
    logs.configure(
        is_json=settings.log_format == "json",
        secrets=[secret.get_secret_value() for secret in secrets],
    )


def _drain_when_told_to_end(worker: Any) -> None:  # noqa: ANN401
    """Let go what nobody waits for at SIGTERM, before the requests under way are waited for."""
    service = worker.wsgi.extensions["sam_plugins"]
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=service.drain, name="drain", daemon=True).start()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, end)


def _close(_server: object, worker: Any) -> None:  # noqa: ANN401
    """Drop what waits, so that the process ends at once: it is asked for again.

    The interpreter is left out. To take PyTorch's modules down costs it a second of processor time,
    on a busy machine ten, and to wait for threads that fetch pictures as long as these take.
    """
    app = getattr(worker, "wsgi", None)
    if app is None:  # it never began; gunicorn sees by the exit code why
        return
    for name in ("sam_plugins_learning", "sam_plugins"):
        if name in app.extensions:
            app.extensions[name].close()
    ending = sys.exc_info()[1]
    if isinstance(ending, SystemExit) and not ending.code:
        _flush()
        os._exit(0)


def _flush() -> None:
    """Write what is left of the log."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _with_gunicorn(host: str, port: int, settings: Settings) -> None:
    """Serve with gunicorn, the application made in the worker."""
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in gunicorn_options(host, port, settings).items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> Flask:
            return _made(settings)

    Application().run()


def _with_waitress(host: str, port: int, settings: Settings) -> None:
    """Serve with waitress."""
    import waitress

    app = _made(settings)
    try:
        waitress.serve(
            app,
            host=host,
            port=port,
            threads=settings.threads,
            channel_timeout=_SECONDS,
            max_request_body_size=settings.max_body_bytes,
        )
    finally:
        app.extensions["sam_plugins"].close()
