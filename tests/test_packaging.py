"""What pyproject.toml promises, the constraints files keep."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.script_files import load_script

import sam_plugins
from sam_plugins.model.weights.registry import model_entries

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


NOT_AT_ITS_LOWEST = {"label-studio-sdk"}
"""Needs newer packages than the lowest of the core; constraints/lowest.txt says so."""


def bounds_of(requirements: list[str]) -> dict[str, str]:
    """Return the lower bound of each requirement, without extras and markers."""
    parts = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", one) for one in requirements]
    return {one[1]: one[2] for one in parts if one}


def test_lowest_constraints_are_the_lower_bounds(repository: Path, project: dict[str, Any]) -> None:
    groups = {name: bounds_of(all_) for name, all_ in project["optional-dependencies"].items()}
    for_development = groups.pop("dev")
    bounds = bounds_of(project["dependencies"])
    assert len(bounds) == len(project["dependencies"])
    for group in groups.values():
        bounds |= group
    lowest = pins(repository / "constraints" / "lowest.txt")

    def padded(version: str) -> list[int]:
        return [*map(int, version.split(".")), 0, 0][:3]

    assert lowest.keys() == bounds.keys() - NOT_AT_ITS_LOWEST
    for name, version in lowest.items():
        assert padded(version) == padded(bounds[name]), name
        assert padded(for_development.get(name, version)) == padded(version), name


def test_the_lowest_napari_is_the_lower_bound(repository: Path, project: dict[str, Any]) -> None:
    lowest = pins(repository / "constraints" / "napari-lowest.txt")
    of_all = pins(repository / "constraints" / "lowest.txt")
    assert lowest.keys() == bounds_of(project["optional-dependencies"]["napari"]).keys()
    assert lowest.items() <= of_all.items()


def test_every_extra_is_installed_by_a_workflow(repository: Path, project: dict[str, Any]) -> None:
    workflow = (repository / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    (listed,) = re.findall(r"^ +extra: \[(.+)\]$", workflow, re.MULTILINE)
    assert {*listed.split(", ")} == {*project["optional-dependencies"]} - {"dev"}


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
    assert extras == {
        "all",
        "dev",
        "evaluate",
        "fast",
        "labelstudio",
        "napari",
        "scale",
        "text",
        "train",
    }


def test_every_dependency_has_its_reason(repository: Path, project: dict[str, Any]) -> None:
    reasons = (repository / "docs" / "dependencies.md").read_text("utf-8").lower()
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {
        re.split(r"[<>=\[ ]", requirement)[0].lower() for group in groups for requirement in group
    }
    assert not sorted(name for name in names - {"sam-plugins"} if f"`{name}`" not in reasons)


@pytest.fixture(scope="module")
def check_wheel() -> ModuleType:
    """Return the script that ``make wheel`` runs."""
    return load_script("check_wheel")


def test_the_shipped_weights_are_there_and_fit_the_promised_size() -> None:
    shipped = [entry for entry in model_entries() if entry.is_shipped]
    assert len(shipped) == 1
    mib = shipped[0].path.stat().st_size / 2**20
    assert 1 < mib <= MAX_WEIGHTS_MIB


def test_every_weight_file_in_the_package_has_a_name(check_wheel: ModuleType) -> None:
    package = Path(sam_plugins.__file__).parent
    found = {path for path in package.rglob("*") if path.suffix in check_wheel.WEIGHT_SUFFIXES}
    named = {entry.path for entry in model_entries() if entry.is_shipped}
    assert {path.resolve() for path in found} == {path.resolve() for path in named}
    assert {f"sam_plugins/{path.relative_to(package).as_posix()}" for path in found} == {
        check_wheel.SHIPPED_MODEL
    }


def write_wheel(path: Path, names: dict[str, int]) -> Path:
    """Write an archive of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, size in names.items():
            wheel.writestr(name, bytes(size))
    return path


def test_what_a_wheel_lacks_or_should_not_have_is_said(
    tmp_path: Path, check_wheel: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = dict.fromkeys(check_wheel.REQUIRED, 10) | {"a.dist-info/licenses/LICENSE": 1}
    good = write_wheel(tmp_path / "good.whl", whole)
    assert check_wheel.complaints(good) == []
    assert check_wheel.main([str(good)]) == 0
    assert "good.whl: 0.0 MiB, complete" in capsys.readouterr().out

    picture = "sam_plugins/data/ihc_colon.png"
    others = {name: size for name, size in whole.items() if name != picture}
    others |= {check_wheel.SHIPPED_MODEL: 26 * 2**20, "sam_plugins/old.pth": 5, "tests/a.py": 1}
    del others["a.dist-info/licenses/LICENSE"]
    bad = write_wheel(tmp_path / "bad.whl", others)
    assert check_wheel.complaints(bad) == [
        f"{picture} is missing",
        "the licence is missing",
        "sam_plugins/old.pth is no model that we ship",
        "the shipped weights take 26.0 MiB, at most 25 MiB are promised",
        "tests/a.py does not belong into a wheel",
    ]
    assert check_wheel.main([str(good), str(bad)]) == 1
    assert check_wheel.main([]) == 2


def test_a_wheel_without_the_shipped_model_is_not_complete(
    tmp_path: Path, check_wheel: ModuleType
) -> None:
    names = dict.fromkeys(check_wheel.REQUIRED, 10) | {"a.dist-info/licenses/LICENSE": 1}
    del names[check_wheel.SHIPPED_MODEL]
    path = write_wheel(tmp_path / "empty.whl", names)
    assert check_wheel.complaints(path) == [f"{check_wheel.SHIPPED_MODEL} is missing"]


def test_the_source_distribution_has_what_its_docs_include(repository: Path) -> None:
    table = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    packed = table["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    docs = repository / "docs"
    included = {
        (page.parent / name).resolve().relative_to(repository).as_posix()
        for page in docs.rglob("*.md")
        if "_build" not in page.parts
        for name in re.findall(r"^```\{include\} (\S+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert "CHANGELOG.md" in included
    assert not [
        name for name in included if not any(f"/{name}".startswith(part) for part in packed)
    ]
