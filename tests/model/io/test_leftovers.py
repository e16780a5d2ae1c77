"""What killed processes have left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.model.io.writing import NAMES, contents, files_in

from sam_plugins.model.io.leftovers import remove_leftovers
from sam_plugins.model.io.temporary import place

KILLED = """
import os, signal, sys
from pathlib import Path
from sam_plugins.model.io.together import files_together

folder, moves = Path(sys.argv[1]), int(sys.argv[2])
replace = Path.replace
count = iter(range(1, 100))

def killed(self, target):
    replace(self, target)
    if next(count) == moves:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = killed
with files_together([folder / part for part in ("first", "second", "third")]) as staged:
    for path in staged:
        path.write_bytes(b"new")
"""


@pytest.fixture
def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder: Path, process: int, where: str | None = None) -> Path:
    return folder / f".a.txt.{where or place()}-{process}-0123456789ab.part"


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
@pytest.mark.parametrize("moves", range(1, 7))
def test_what_a_killed_process_began_is_finished(tmp_path: Path, moves: int) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(moves)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert files_in(tmp_path)[0].endswith(".part")
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(NAMES, b"new")


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
@pytest.mark.parametrize("moves", range(1, 6))
def test_what_somebody_made_after_the_kill_is_kept(tmp_path: Path, moves: int) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(moves)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (tmp_path / "third").write_bytes(b"mine")  # set aside first, given its name last
    remove_leftovers(tmp_path)
    # what had not been set aside may belong to it: only gaps are filled
    first, second = (b"old" if moves < number else b"new" for number in (3, 2))
    assert contents(tmp_path) == {"first": first, "second": second, "third": b"mine"}


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell which processes live")
def test_a_process_that_was_killed_before_leaves_nothing(tmp_path: Path, ended: int) -> None:
    (tmp_path / "first").write_bytes(b"old")
    staging = leftover(tmp_path, ended)
    for made in (staging, staging / "old", staging / "new"):
        made.mkdir()
    (staging / "new" / "first").write_bytes(b"half of the n")
    (tmp_path / staging.name.replace("a.txt", "b.txt")).touch()
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"first": b"old"}


def test_what_may_be_in_use_or_is_not_ours_is_kept(tmp_path: Path, ended: int) -> None:
    kept = [
        leftover(tmp_path, os.getpid()),
        leftover(tmp_path, ended, where="ffffff"),
        leftover(tmp_path, ended),  # an older file that could not be put back
        tmp_path / f"{place()}-{ended}-0123456789ab.part",
        tmp_path / ".download.part",
    ]
    for path in kept:
        (path / "old").mkdir(parents=True)
        (path / "old" / "work").touch()
    remove_leftovers(tmp_path)
    assert all((path / "old" / "work").is_file() for path in kept)
    remove_leftovers(tmp_path / "no such folder")
