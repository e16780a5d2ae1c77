"""What the image and the compose file promise, as far as it can be kept without Docker."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.server import free_port
from tests.labelstudio_backend.serving import served

from sam_plugins.cli.app import build_parser
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "labelstudio"
PREFIX = "SAM_PLUGINS_LS_"


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def only(word: str) -> str:
    """The one instruction of a kind."""
    (rest,) = [rest for name, rest in steps() if name == word]
    return rest


def composed() -> dict[str, Any]:
    """The services."""
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    services: dict[str, Any] = document["services"]
    return services


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    sources = [
        source
        for word, rest in steps()
        if word == "COPY"
        for source in shlex.split(rest)[:-1]
    ]  # fmt: skip
    assert sources
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_the_extras_of_the_image_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (default,) = [rest for word, rest in steps() if word == "ARG"]
    names = default.removeprefix("EXTRAS=").split(",")
    assert {"labelstudio", "train"} <= set(names) <= set(project["optional-dependencies"])


def test_the_command_of_the_image_is_one() -> None:
    command = json.loads(only("CMD"))
    assert command[0] == "sam-plugins"
    chosen = build_parser().parse_args(command[1:])
    assert (chosen.host, chosen.port) == ("0.0.0.0", int(only("EXPOSE")))


@pytest.mark.parametrize("password", ["", "sesame"])
def test_the_health_check_passes_where_the_server_is_up(
    make_service: MakeService, password: str
) -> None:
    service = make_service(password=password)
    with served(create_app(service.settings, service=service)) as url:
        assert health(int(url.rpartition(":")[2])) == 0
    assert health(free_port()) != 0


def health(port: int) -> int:
    """The exit code of the health check, asked at another port."""
    (found,) = re.findall(r"CMD (\[.*\])", only("HEALTHCHECK"))
    program, *arguments = json.loads(found)
    assert program == "python"
    asked = [argument.replace(only("EXPOSE"), str(port)) for argument in arguments]
    assert asked != arguments
    return subprocess.run([sys.executable, *asked], check=False, capture_output=True).returncode


def test_what_has_to_last_lies_in_the_volume() -> None:
    volume = only("VOLUME")
    variables = dict(one.split("=") for one in only("ENV").split())
    assert variables["SAM_PLUGINS_HOME"] == volume
    assert variables[f"{PREFIX}FOLDER"].startswith(f"{volume}/")
    (mounted,) = composed()["backend"]["volumes"]
    assert mounted.partition(":")[2] == volume


def test_the_settings_of_the_compose_file_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = composed()["backend"]["environment"]
    for name, value in given.items():
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    assert Settings().url_map == {"http://localhost:8080": "http://label-studio:8080"}


def test_whoever_forgets_a_password_is_told() -> None:
    """An empty one would let everybody in."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text)) - {"EXTRAS"}  # has a default
    example = (FOLDER / "example.env").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"(?m)^(\w+)=", example))
    assert set(re.findall(r"\$\{(\w+):\?[^}]+\}", text)) == asked


def test_label_studio_makes_a_webhook_for_the_backend() -> None:
    backend = composed()["backend"]
    (alias,) = backend["networks"]["default"]["aliases"]
    assert "." in alias
    assert alias in (ROOT / "docs/how-to/label-studio.md").read_text(encoding="utf-8")
    assert all(port.startswith("127.0.0.1:") for port in backend["ports"])
