"""The command, as it runs in production: gunicorn in a process of its own."""

from __future__ import annotations

import html
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import click, data_url, disk, own, picture_of, request
from tests.labelstudio_backend.server import free_port
from tests.labelstudio_backend.serving import commanded

from sam_plugins.errors import ListenError
from sam_plugins.labelstudio_backend import serving
from sam_plugins.labelstudio_backend.serving import gunicorn_options, require_address
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.status_page import render_status


@pytest.mark.slow
@pytest.mark.server
def test_the_command_serves_and_ends_in_order(tmp_path: Path) -> None:
    with commanded(tmp_path, SAM_PLUGINS_LS_USER="me", SAM_PLUGINS_LS_PASSWORD="sesame") as backend:
        size = (60, 80)
        picture = data_url(picture_of(disk(size, (40, 30), 15)))
        body = request([click(40, 30, size_hw=size)], own(), url=picture)
        answer = requests.post(
            f"{backend.url}/predict", json=body, auth=("me", "sesame"), timeout=120
        )
        assert len(answer.json()["results"][0]["result"]) == 1
    lines = (tmp_path / "log").read_text().splitlines()
    noted = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(one.get("route") == "predict" and one["status"] == 200 for one in noted)
    assert "sesame" not in "".join(lines)


@pytest.mark.skipif(os.name != "posix", reason="gunicorn is for POSIX")
def test_batches_are_let_go_as_soon_as_the_process_is_told_to_end() -> None:
    heard: list[str] = []
    drained = threading.Event()
    worker = SimpleNamespace(
        wsgi=SimpleNamespace(extensions={"sam_plugins": SimpleNamespace(drain=drained.set)})
    )
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("as ever"))
    try:
        gunicorn_options("127.0.0.1", 9090, Settings())["post_worker_init"](worker)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert drained.wait(timeout=10)
    assert heard == ["as ever"]


_NO_TORCH = """
import time
from pathlib import Path

folder = Path(__file__).parents[1]
(folder / "asked").touch()
while not (folder / "told").exists():
    time.sleep(0.05)
raise ImportError("this PyTorch is for tests")
"""


@pytest.mark.server
@pytest.mark.skipif(os.name != "posix", reason="gunicorn is for POSIX")
def test_label_studio_is_answered_before_pytorch_is_there(tmp_path: Path) -> None:
    """With a PyTorch that takes as long as the test wants."""
    fake = tmp_path / "torch" / "__init__.py"
    fake.parent.mkdir()
    fake.write_text(_NO_TORCH)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with commanded(tmp_path, PYTHONPATH=path) as backend:
        asked = {"project": "1.1", "schema": own(), "hostname": "", "access_token": ""}
        assert requests.post(f"{backend.url}/setup", json=asked, timeout=30).json()["model_version"]
        event = {"action": "PROJECT_UPDATED", "project": {"id": 1, "created_at": "1970-01-01"}}
        queued = requests.post(f"{backend.url}/webhook", json=event, timeout=30)
        assert queued.json() == {"status": "queued"}
        status = requests.get(f"{backend.url}/status", timeout=30).json()
        assert status["loading"]
        end = time.monotonic() + 60
        while not (tmp_path / "asked").exists():
            assert time.monotonic() < end, "PyTorch was never asked for"
            time.sleep(0.05)
        (tmp_path / "told").touch()


_LARGE = ("torch", "scipy", "skimage", "zarr", "tifffile", "imagecodecs", "numpy", "pandas")
_LOADED = """
import sys
import sam_plugins.labelstudio_backend.learning.creating
print(*sys.modules)
"""


def test_what_is_served_loads_no_large_library() -> None:
    """It is loaded before the first answer: it took five seconds, on a busy machine fifty."""
    command = [sys.executable, "-c", _LOADED]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert not set(_LARGE) & set(loaded)
    assert len(loaded) < 800  # of 2,450, with all of them


def test_the_process_that_looks_after_the_server_stays_small() -> None:
    """PyTorch before a fork survives none, and costs it a second each to begin and to end."""
    code = "import sys, sam_plugins.labelstudio_backend.serving; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_ENDING = """
import atexit, sys
from types import SimpleNamespace
from sam_plugins.labelstudio_backend import serving

atexit.register(lambda: print("the interpreter was taken down"))
closed = SimpleNamespace(close=lambda: print("closed", end=" "))
app = SimpleNamespace(extensions={"sam_plugins_learning": closed, "sam_plugins": closed})
try:
    sys.exit(int(sys.argv[1]))
finally:
    serving._close(None, SimpleNamespace(wsgi=app if sys.argv[2] == "began" else None))
"""


@pytest.mark.parametrize(("code", "began", "said"), [
    (0, "began", "closed closed "),
    (1, "began", "closed closed the interpreter was taken down\n"),
    (3, "never", "the interpreter was taken down\n"),
])  # fmt: skip
def test_a_worker_that_is_done_leaves_the_interpreter_alone(
    code: int, began: str, said: str
) -> None:
    command = [sys.executable, "-c", _ENDING, str(code), began]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, said)


def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam_plugins.cli import main

    monkeypatch.setenv("SAM_PLUGINS_LS_URL", "label-studio:8080")
    assert main(["labelstudio", "serve"]) == 1
    assert "SAM_PLUGINS_LS_URL must start with http" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_is_taken_is_said_in_one_line(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam_plugins.cli import main

    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["labelstudio", "serve", "--host", host, "--port", str(port)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot listen on {host}, port {port}: another program listens there" in line
    assert "choose another port (--port " in line


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "this machine has no such address; listen on 127.0.0.1"),
        ("no-such-host.invalid", "does not know the host 'no-such-host.invalid'"),
    ],
)
def test_an_address_of_another_machine_is_refused(host: str, message: str) -> None:
    with pytest.raises(ListenError, match=message):
        require_address(host, 9090)


@pytest.mark.parametrize(("host", "password", "is_said"), [
    ("0.0.0.0", "", True), ("0.0.0.0", "sesame", False), ("127.0.0.1", "", False),
])  # fmt: skip
def test_who_lets_everybody_in_is_warned(
    host: str, password: str, is_said: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(serving, "_with_gunicorn", lambda *_: None)
    monkeypatch.setattr(serving, "_configure_log", lambda _: None)
    monkeypatch.setattr(serving.LOG, "warning", lambda text, *values: said.append(text % values))
    serving.serve(host, free_port(), Settings(folder=tmp_path, password=password))
    assert bool(said) is is_said
    if is_said:
        assert "everybody who reaches 0.0.0.0" in said[0]
        assert "SAM_PLUGINS_LS_PASSWORD" in said[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["SAM_PLUGINS_LS_URL and SAM_PLUGINS_LS_API_KEY are not set: clicks work on pictures",
              "what does not is clicks on pictures that were uploaded", "training on these",
              "set both: the address of Label Studio as this machine reaches it"]),
        ({"url": "http://studio:8080"}, ["SAM_PLUGINS_LS_API_KEY is not set: clicks work on"]),
        ({"api_key": "a" * 40}, ["SAM_PLUGINS_LS_URL is not set: clicks work on"]),
        ({"trust_setup": True}, ["what Label Studio sends when it connects is used instead"]),
        ({"url": "http://studio:8080", "api_key": "a" * 40}, []),
    ],
)  # fmt: skip
def test_without_address_and_token_it_says_what_does_not_work(
    settings: dict[str, Any], said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    make_service: MakeService,
) -> None:  # fmt: skip
    told: list[str] = []
    monkeypatch.setattr(serving, "_with_gunicorn", lambda *_: None)
    monkeypatch.setattr(serving, "_configure_log", lambda _: None)
    serving.serve("127.0.0.1", free_port(), Settings(folder=tmp_path, **settings), tell=told.append)
    lines = [line for line in told if "SAM_PLUGINS_LS_" in line]
    assert len(lines) == bool(said)
    status = make_service(**settings).status()
    assert status.get("limits") == (lines[0] if said else None)
    for words in said:
        assert words in lines[0]
    if said:
        assert html.escape(lines[0]) in render_status(status)


def test_browsers_may_use_the_name_that_it_listens_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen: list[Settings] = []
    monkeypatch.setattr(serving, "_with_gunicorn", lambda *arguments: chosen.append(arguments[2]))
    monkeypatch.setattr(serving, "_configure_log", lambda _: None)
    monkeypatch.setattr(serving, "require_address", lambda *_: None)
    serving.serve("Sam.lab", 9090, Settings(folder=tmp_path, host_names=("other",)))
    assert chosen[0].host_names == ("other", "sam.lab")
