"""What pyproject.toml promises, the constraints files keep."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MAX_WEIGHTS_MIB = 25.0
FRONT_END_PACKAGES = ("napari", "qtpy", "pyqt", "pyside", "magicgui", "flask", "label-studio")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    """Return the ``[project]`` table."""
    table: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return table


def pins(path: Path) -> dict[str, str]:
    """Read ``name==version`` lines."""
    lines = [
        line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    return dict(line.split("==") for line in lines)


def test_lowest_constraints_are_the_lower_bounds(repository: Path, project: dict[str, Any]) -> None:
    bounds = dict(requirement.split(">=") for requirement in project["dependencies"])
    lowest = pins(repository / "constraints" / "lowest.txt")

    def padded(version: str) -> list[int]:
        return [*map(int, version.split(".")), 0, 0][:3]

    assert lowest.keys() == bounds.keys()
    for name, version in lowest.items():
        assert padded(version) == padded(bounds[name]), name


def test_cpu_constraints_pin_one_torch(repository: Path) -> None:
    assert pins(repository / "constraints" / "cpu.txt").keys() == {"torch"}


def test_core_requires_no_front_end(project: dict[str, Any]) -> None:
    names = [
        re.split(r"[<>=\[ ]", requirement)[0].lower() for requirement in project["dependencies"]
    ]
    assert not [name for name in names if name.startswith(FRONT_END_PACKAGES)]


def test_napari_extra_brings_no_qt_binding(project: dict[str, Any]) -> None:
    text = " ".join(project["optional-dependencies"]["napari"]).lower()
    assert not re.search(r"pyqt|pyside|napari\[", text)


def test_extras_are_the_promised_ones(project: dict[str, Any]) -> None:
    extras = set(project["optional-dependencies"])
    assert extras == {"all", "dev", "fast", "labelstudio", "napari", "scale", "text", "train"}


def test_every_dependency_has_its_reason(repository: Path, project: dict[str, Any]) -> None:
    reasons = (repository / "docs" / "dependencies.md").read_text("utf-8").lower()
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {
        re.split(r"[<>=\[ ]", requirement)[0].lower() for group in groups for requirement in group
    }
    assert not sorted(name for name in names - {"sam-plugins"} if f"`{name}`" not in reasons)


def test_shipped_weights_fit_the_promised_size(repository: Path) -> None:
    folder = repository / "src" / "sam_plugins" / "model" / "weights" / "default"
    mib = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**20
    assert mib <= MAX_WEIGHTS_MIB
