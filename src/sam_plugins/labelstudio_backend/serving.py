"""Starting the server: gunicorn where there is one, waitress elsewhere.

One process with many threads: embeddings, sessions and the model's lane are shared by all requests,
and the network uses all cores by itself. Gunicorn replaces the process when it dies.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import MissingExtraError, how_to_install
from sam_plugins.labelstudio_backend import logs
from sam_plugins.labelstudio_backend.learning.creating import learning_app
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
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
    }


def build() -> Flask:
    """Return the application of this process, with its log; what gunicorn's worker calls."""
    settings = Settings()
    _configure_log(settings)
    return learning_app(settings)


def serve(host: str, port: int, settings: Settings | None = None) -> None:
    """Listen until the process is told to end.

    Parameters
    ----------
    host : str
    port : int
    settings : Settings, optional
        From the environment by default.

    Raises
    ------
    MissingExtraError
        If no server is installed.
    """
    settings = settings or Settings()
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


def _with_gunicorn(host: str, port: int, settings: Settings) -> None:
    """Serve with gunicorn, the application made in the worker."""
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in gunicorn_options(host, port, settings).items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            return learning_app(settings)

    Application().run()


def _with_waitress(host: str, port: int, settings: Settings) -> None:
    """Serve with waitress."""
    import waitress

    waitress.serve(
        learning_app(settings),
        host=host,
        port=port,
        threads=settings.threads,
        channel_timeout=_SECONDS,
        max_request_body_size=settings.max_body_bytes,
    )
