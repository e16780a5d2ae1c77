"""Every example runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

PRINTED = {
    "click_and_correct.py": r"one click: \d+ pixels, IoU \d\.\d\d\ncorrected: \d+ pixels, IoU ",
    "from_segment_anything.py": r"(\d+ pixels, predicted IoU -?\d\.\d\d\n){3}$",
    "segment_coins.py": r"(\d+) objects in 384 x 303 pixels\nobject  1: score \d\.\d\d, \d+ pixels",
}
"""What each script prints; a new one gets its line here."""


def test_every_example_is_run_and_described() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(PRINTED)
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert not [name for name in scripts if f"`{name}`" not in readme]


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env={**os.environ, "SAM_PLUGINS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(PRINTED[name], done.stdout), done.stdout
