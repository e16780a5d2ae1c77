"""The command, as it runs in production: gunicorn in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from tests.labelstudio_backend.payloads import click, data_url, disk, own, picture_of, request
from tests.labelstudio_backend.server import free_port


@pytest.mark.slow
@pytest.mark.server
def test_the_command_serves_and_ends_in_order(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "SAM_PLUGINS_HOME": str(tmp_path),
        "SAM_PLUGINS_LS_USER": "me",
        "SAM_PLUGINS_LS_PASSWORD": "sesame",
        "SAM_PLUGINS_LS_DEVICE": "cpu",
    }
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "sam_plugins.cli", "labelstudio", "serve", "--port", str(port)],
        env=environment,
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{url}/health", timeout=2).status_code == 401:
                    break
            time.sleep(0.2)
        size = (60, 80)
        picture = data_url(picture_of(disk(size, (40, 30), 15)))
        body = request([click(40, 30, size_hw=size)], own(), url=picture)
        answer = requests.post(f"{url}/predict", json=body, auth=("me", "sesame"), timeout=120)
        assert len(answer.json()["results"][0]["result"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
        log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    noted = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(one.get("route") == "predict" and one["status"] == 200 for one in noted)
    assert code in {0, 143}, lines[-20:]
    assert "sesame" not in "".join(lines)


def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sam_plugins.cli import main

    monkeypatch.setenv("SAM_PLUGINS_LS_URL", "label-studio:8080")
    assert main(["labelstudio", "serve"]) == 1
    assert "SAM_PLUGINS_LS_URL must start with http" in capsys.readouterr().err
