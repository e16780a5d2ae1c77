"""The shape of the package: imports point inwards, and importing it is cheap and without effect."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MAX_IMPORT_SECONDS = 0.1
MAX_IMPORTED_MODULES = 20
"""Measured: 3 (ours, ``typing`` and what it takes); numpy alone would be over 100."""

FRONT_ENDS = (
    "napari",
    "qtpy",
    "PyQt5",
    "PyQt6",
    "PySide2",
    "PySide6",
    "magicgui",
    "flask",
    "label_studio_sdk",
)


def run_fresh(code: str) -> str:
    """Run ``code`` in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def newly_imported(statement: str) -> set[str]:
    """Return the modules that ``statement`` adds to those of a bare interpreter."""
    code = (
        f"import sys, json; before = set(sys.modules); {statement}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    return set(json.loads(run_fresh(code).splitlines()[-1]))


def test_import_contracts_hold(repository: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra: dev)")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-logo",
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_almost_nothing() -> None:
    modules = newly_imported("import sam_plugins")
    packages = {name.partition(".")[0] for name in modules}
    assert not packages & {"torch", "numpy", "scipy", "skimage", "PIL", "zarr", *FRONT_ENDS}
    assert len(modules) <= MAX_IMPORTED_MODULES, sorted(modules)


def test_importing_the_package_is_quick() -> None:
    code = (
        "import time; t = time.perf_counter(); import sam_plugins; print(time.perf_counter() - t)"
    )
    seconds = min(float(run_fresh(code)) for _ in range(3))
    assert seconds < MAX_IMPORT_SECONDS


def test_threads_that_wait_for_work_soon_sleep_unless_said_otherwise() -> None:
    tell = "import os, sam_plugins; print(os.environ.get('GOMP_SPINCOUNT'))"
    for said, count in (
        ("pass", "10000"),
        ("os.environ['GOMP_SPINCOUNT'] = '7'", "7"),
        ("os.environ['OMP_WAIT_POLICY'] = 'active'", "None"),
    ):
        unset = "import os; [os.environ.pop(n, 0) for n in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')]"
        assert run_fresh(f"{unset}\n{said}\n{tell}").strip() == count


def test_importing_the_command_line_loads_no_torch() -> None:
    assert "torch" not in newly_imported("import sam_plugins.cli")


def test_the_core_loads_neither_a_window_nor_a_server() -> None:
    walk = (
        "import pkgutil, importlib, sam_plugins.model, sam_plugins.cli; "
        "[importlib.import_module(m.name) for p in (sam_plugins.model, sam_plugins.cli) "
        "for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.') "
        "if not m.name.endswith('__main__')]"
    )
    packages = {name.partition(".")[0] for name in newly_imported(walk)}
    assert not packages & set(FRONT_ENDS)


def test_importing_any_room_prints_nothing() -> None:
    out = run_fresh(
        "import sam_plugins.napari_plugin, sam_plugins.labelstudio_backend, sam_plugins.model"
    )
    assert out == ""
