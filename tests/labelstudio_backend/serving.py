"""An application served on this machine, in this process or as the command in one of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from flask import Flask
from tests.labelstudio_backend.server import free_port
from werkzeug.serving import make_server


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an application in threads; yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@dataclass(frozen=True)
class Command:
    """A backend in a process of its own."""

    url: str
    pid: int

    def resident_mib(self) -> float:
        """Return the memory of the process that answers; the first one looks after it."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        (worker,) = children.split()
        pages = int(Path(f"/proc/{worker}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def commanded(folder: Path, **variables: str) -> Iterator[Command]:
    """Run ``sam-plugins labelstudio serve`` until it is up; end it at last.

    Parameters
    ----------
    folder : Path
        Of its state and its log.
    **variables : str
        Of its environment.
    """
    port = free_port()
    environment = {
        **os.environ,
        "SAM_PLUGINS_HOME": str(folder / "home"),
        "SAM_PLUGINS_LS_FOLDER": str(folder / "backend"),
        "SAM_PLUGINS_LS_DEVICE": "cpu",
        **variables,
    }
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "sam_plugins", "labelstudio", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = _up(f"http://127.0.0.1:{port}", process, folder / "log")
            yield Command(url, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(timeout=60)
            finally:
                process.kill()
        assert code in {0, 143}, (folder / "log").read_text()[-2000:]


def _up(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a backend answers; return its address."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=5).status_code in {200, 401}:
                return url
        time.sleep(0.1)
    raise AssertionError(f"the backend did not start: {log.read_text()[-2000:]}")
