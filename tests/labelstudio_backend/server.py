"""A real Label Studio on this machine: started in seconds from a database that was made once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import pytest
import requests

TOKEN = "0123456789abcdef0123456789abcdef01234567"
EMAIL = "annotator@example.com"
PASSWORD = "correct horse battery"
_START_SECONDS = 800
_VARIABLE = "SAM_PLUGINS_TEST_LABEL_STUDIO"
_VERSION = "1.23.2"


def cache() -> Path:
    """The folder that ``scripts/setup_label_studio.sh`` installs into."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "sam-plugins-tests"


def executable() -> Path:
    """The program, or a skip with what to do."""
    named = os.environ.get(_VARIABLE)
    made = sorted(cache().glob(f"label-studio-{_VERSION}-python-*/.installed"))
    path = Path(named) if named else next((one.parent / "bin/label-studio" for one in made), None)
    if path is None or not path.is_file():
        pytest.skip(
            f"no label-studio {_VERSION}{f' at {path}' if path else ''}: run "
            f"scripts/setup_label_studio.sh, or set {_VARIABLE} to the program label-studio of a "
            "virtual environment"
        )
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LabelStudio:
    """A server, as its administrator.

    Parameters
    ----------
    folder : Path
        Of its data; its database is a copy of the template.
    port : int
    settings : mapping
        More of its settings.
    """

    folder: Path
    port: int
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    _personal_token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        names = {
            "BASE_DATA_DIR": str(self.folder),
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "LATEST_VERSION_CHECK": "false",
            "FEATURE_FLAGS_OFFLINE": "true",
            "USE_NGINX_FOR_UPLOADS": "false",
            "COLLECT_ANALYTICS": "false",
            **self.settings,
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            **{f"LABEL_STUDIO_{name}": value for name, value in names.items()},
        }
        arguments = [
            str(executable()), "start", "--no-browser", "--internal-host", "127.0.0.1",
            "--port", str(self.port), "--data-dir", str(self.folder), "--username", EMAIL,
            "--password", PASSWORD, "--user-token", TOKEN, "--enable-legacy-api-token",
        ]  # fmt: skip
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/api/version", timeout=5).ok:
                    return
            time.sleep(0.3)
        raise AssertionError("Label Studio did not start")

    def stop(self) -> None:
        """End it, and what it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Ask the API; the JSON of its answer."""
        headers = {"Authorization": f"Token {TOKEN}"}
        answer = requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=120, **arguments
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def personal_token(self) -> str:
        """A personal access token; a user has one at most, so that tests share it."""
        if not self._personal_token:
            self._personal_token = self.call("POST", "/api/token/")["token"]
        return self._personal_token

    def make_project(self, config: str, title: str = "Cells") -> dict[str, Any]:
        """Make a project."""
        made: dict[str, Any] = self.call(
            "POST", "/api/projects/", json={"title": title, "label_config": config}
        )
        return made

    def upload(self, project: int, pictures: Sequence[Path]) -> list[int]:
        """Import pictures; the numbers of their tasks, in order."""
        before = {one["id"] for one in self.tasks(project)}
        for path in pictures:
            with path.open("rb") as file:
                self.call("POST", f"/api/projects/{project}/import", files={path.name: file})
        return [one["id"] for one in self.tasks(project) if one["id"] not in before]

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks with annotations and predictions."""
        query = {"project": project, "fields": "all", "page_size": 1000}
        found: list[dict[str, Any]] = self.call("GET", "/api/tasks/", params=query)["tasks"]
        return sorted(found, key=lambda one: int(one["id"]))

    def annotate(self, task: int, result: Sequence[Any], lead_time: float = 10.0) -> int:
        """Submit an annotation."""
        document = {"result": list(result), "lead_time": lead_time}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", json=document)["id"])

    def connect(self, project: int, url: str, **others: Any) -> dict[str, Any]:
        """Connect a backend."""
        document = {"project": project, "url": url, "is_interactive": True, **others}
        made: dict[str, Any] = self.call("POST", "/api/ml/", json=document)
        return made


def template() -> Path:
    """A data folder in which the database was made, once for this machine and version."""
    number = executable().stat().st_mtime_ns
    folder = cache() / f"label-studio-data-{number:x}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):  # Tests run in several processes.
        if not folder.is_dir():
            making = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
            first = LabelStudio(making, free_port(), {})
            try:
                first.start()
            finally:
                first.stop()
            making.rename(folder)
    return folder


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[LabelStudio]:
    """A server with a database of its own.

    Parameters
    ----------
    folder : Path
        Not there yet.
    **settings
        Of Label Studio, without ``LABEL_STUDIO_``.
    """
    shutil.copytree(template(), folder)
    server = LabelStudio(folder, free_port(), settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
