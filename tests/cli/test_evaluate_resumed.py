"""``sam-plugins evaluate`` goes on where an interrupted run ended, to the same report."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.small_model import write_small_model
from tests.labelled_sets import write_sets
from tests.model.inference.tiny_clip import write_tiny_clip

from sam_plugins.cli.app import main
from sam_plugins.model.evaluation import kept_pictures, run_task
from sam_plugins.model.io.labelled import LabelledSource

Evaluate = Callable[..., int]

KILLED = """
import os, signal, sys, time
from sam_plugins.cli.app import main
from sam_plugins.model.evaluation import run_task

time.perf_counter = lambda: 0.0
see, seen = run_task.see, []

def killing(task, file):
    seen.append(file)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return see(task, file)

run_task.see = killing
main(sys.argv[1:])
"""
"""A program that is killed when two pictures are measured."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two small sets of two pictures each."""
    return write_sets(tmp_path / "data")


@pytest.fixture
def command(tmp_path: Path, data: Path) -> list[str]:
    """The command without its task and its output."""
    weights = write_small_model(tmp_path / "small.safetensors")
    return ["--data", str(data), "--model", str(weights)]


@pytest.fixture
def evaluate(command: list[str]) -> Evaluate:
    """Run a task; return the exit code."""

    def run(task: str, out: Path, *options: object) -> int:
        return main(["evaluate", task, *command, *map(str, options), "-o", str(out)])

    return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that are measured; all of it takes no time."""
    names: list[str] = []
    see = run_task.see

    def noting(task: Any, file: LabelledSource) -> run_task.Seen:
        names.append(f"{file.set_name}/{file.id}")
        return see(task, file)

    for module in (run_task, kept_pictures):
        monkeypatch.setattr(module, "see", noting)
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    return names


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch, evaluate: Evaluate) -> Callable[..., None]:
    """Run a task that is interrupted before its last picture."""

    def run(task: str, out: Path, *options: object, after: int = 3) -> None:
        begun = []
        with monkeypatch.context() as patched:
            see = run_task.see

            def interrupted(task: Any, file: LabelledSource) -> run_task.Seen:
                begun.append(file)
                if len(begun) > after:
                    raise KeyboardInterrupt
                return see(task, file)

            patched.setattr(run_task, "see", interrupted)
            assert evaluate(task, out, *options) == 130
        assert len(begun) == after + 1

    return run


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all files in a folder by their names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kept_in(folder: Path) -> list[Path]:
    """Return the files of scores in the folder of a report."""
    return sorted((folder / "measured.work").glob("*.scores"))


def test_a_killed_run_is_continued_to_the_same_report(
    evaluate: Evaluate,
    command: list[str],
    seen: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate("single-point", tmp_path / "whole") == 0
    assert seen == ["cells/a", "cells/b", "photos/p", "photos/q"]
    assert "earlier run" not in capsys.readouterr().err
    out = tmp_path / "out"
    program = [sys.executable, "-c", KILLED, "evaluate", "single-point", *command, "-o", str(out)]
    killed = subprocess.run(program, check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(kept_in(out)) == 2
    assert not (out / "report.json").exists()
    seen.clear()
    assert evaluate("single-point", out) == 0
    assert seen == ["photos/p", "photos/q"]
    assert "2 pictures of 4 measured by an earlier run, 2 to measure" in capsys.readouterr().err
    ours, theirs = files_in(out), files_in(tmp_path / "whole")
    assert ours.keys() == theirs.keys()  # nothing is left of what was kept
    assert {name for name in ours if ours[name] != theirs[name]} == set()
    seen.clear()
    assert evaluate("single-point", out) == 0  # the report is complete: measured anew
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("single-point", ["--max-objects", "2"]),
        ("clicks", ["--max-objects", "1", "--from-box"]),
        ("edges", ["--points-per-side", "3", "--thresholds", "5"]),
        ("proposals", ["--points-per-side", "4"]),
        ("instances", []),
        ("automatic", []),
        ("text", ["--mode", "grid"]),
    ],
)
def test_every_task_goes_on(
    evaluate: Evaluate,
    interrupt: Callable[..., None],
    seen: list[str],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    options: list[str],
) -> None:
    if task == "instances":
        pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: evaluate)")
    if task == "text":
        pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
        options = [*options, "--clip", str(write_tiny_clip(tmp_path / "clip"))]
        _name_objects(data)
    out = tmp_path / "out"
    last = 2 if task == "edges" else 3  # one of the pictures does not suit it
    interrupt(task, out, *options, after=last)
    said = capsys.readouterr().err
    assert "what is done is kept; the same command goes on from there" in said
    assert len(kept_in(out)) == last
    seen.clear()
    assert evaluate(task, out, *options) == 0
    assert seen == ["photos/q"]
    assert evaluate(task, tmp_path / "whole", *options) == 0
    assert files_in(out) == files_in(tmp_path / "whole")


def _name_objects(data: Path) -> None:
    """Give the objects of all pictures names."""
    for name in ("cells", "photos"):
        path = data / name / "manifest.json"
        manifest = json.loads(path.read_text())
        for file in manifest["files"]:
            file["objects"] = [{"id": 1, "category": "cat"}, {"id": 2, "category": "dog"}]
        path.write_text(json.dumps(manifest))


def test_other_options_another_model_or_picture_are_measured_anew(
    interrupt: Callable[..., None],
    command: list[str],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"

    def to_measure(task: str, *options: object) -> int:
        """Return how many of four pictures would be measured: nothing is."""
        capsys.readouterr()
        interrupt(task, out, *options, after=0)
        said = re.search(r"(\d+) to measure", capsys.readouterr().err)
        return 4 if said is None else int(said[1])

    one = ["--max-objects", 1]
    interrupt("single-point", out, *one)
    assert to_measure("single-point", *one) == 1
    assert to_measure("single-point", *one, "--overwrite", "--split", "val", "--json") == 1
    assert to_measure("single-point", *one, "--scheduler", "none", "--device", "cpu") == 1
    assert to_measure("single-point", "--max-objects", 2) == 4
    assert to_measure("single-point") == 4
    assert to_measure("clicks", *one) == 4
    os.utime(data / "cells" / "val" / "images" / "b.png", ns=(1, 1))
    assert to_measure("single-point", *one) == 2
    os.utime(data / "photos" / "val" / "labels" / "p.png", ns=(1, 1))
    assert to_measure("single-point", *one) == 3
    manifest = data / "cells" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"annotation_complete": true', '"said": 1'))
    assert to_measure("single-point", *one) == 4
    write_small_model(Path(command[-1]), seed=1)
    manifest.write_text(manifest.read_text().replace('"said": 1', '"annotation_complete": true'))
    assert to_measure("single-point", *one) == 4


def test_another_version_measures_anew(
    evaluate: Evaluate,
    interrupt: Callable[..., None],
    seen: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt("single-point", tmp_path / "out", "--max-objects", 1)
    monkeypatch.setattr("sam_plugins.cli.evaluation_kept.__version__", "another")
    seen.clear()
    assert evaluate("single-point", tmp_path / "out", "--max-objects", 1) == 0
    assert len(seen) == 4


def test_boxes_of_a_changed_file_are_asked_anew(
    evaluate: Evaluate, interrupt: Callable[..., None], seen: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: evaluate)")
    boxes = tmp_path / "boxes.json"
    found = {"image_id": "cells/a", "category_id": 1, "bbox": [5, 5, 15, 15], "score": 0.9}
    boxes.write_text(json.dumps([found]))
    interrupt("instances", tmp_path / "out", "--detections", boxes)
    boxes.write_text(json.dumps([found, found]))
    seen.clear()
    assert evaluate("instances", tmp_path / "out", "--detections", boxes) == 0
    assert len(seen) == 4


@pytest.mark.parametrize("ending", [".scores", ".panels"])
def test_what_was_cut_off_is_measured_again(
    evaluate: Evaluate,
    interrupt: Callable[..., None],
    seen: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    out = tmp_path / "out"
    interrupt("single-point", out, "--max-objects", 1)
    files = sorted((out / "measured.work").glob(f"*{ending}"))
    assert len(files) == 3
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-1])
    files[1].write_bytes(content[:40])
    seen.clear()
    assert evaluate("single-point", out, "--max-objects", 1) == 0
    assert len(seen) == 3
    waiting = 3 if ending == ".scores" else 1  # of the others only the examples are drawn again
    assert f"earlier run, {waiting} to measure" in capsys.readouterr().err
    assert evaluate("single-point", tmp_path / "whole", "--max-objects", 1) == 0
    assert files_in(out) == files_in(tmp_path / "whole")


def test_a_picture_that_failed_is_tried_again(
    evaluate: Evaluate, seen: list[str], data: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "out", ["--max-objects", 1]
    picture = data / "cells" / "val" / "images" / "a.png"
    whole = picture.read_bytes()
    state = picture.stat()
    picture.unlink()
    assert evaluate("single-point", out, *options) == 1
    assert len(kept_in(out)) == 3
    seen.clear()
    assert evaluate("single-point", out, *options) == 1
    assert seen == ["cells/a"]
    picture.write_bytes(whole)
    os.utime(picture, ns=(state.st_atime_ns, state.st_mtime_ns))
    seen.clear()
    assert evaluate("single-point", out, *options) == 0
    assert seen == ["cells/a"]
    assert evaluate("single-point", tmp_path / "whole", *options) == 0
    assert files_in(out) == files_in(tmp_path / "whole")


def test_a_picture_that_cannot_be_drawn_is_tried_again(
    evaluate: Evaluate, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("no ink")

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(run_task, "drawn_panels", failing)
        assert evaluate("single-point", out, "--max-objects", 1) == 1
    assert kept_in(out) == []
    assert evaluate("single-point", out, "--max-objects", 1) == 0
    assert len(seen) == 8


def test_a_full_disk_costs_what_is_kept_and_no_figure(
    evaluate: Evaluate,
    seen: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "measured.work").write_text("a file where the folder would be")
    assert evaluate("single-point", out, "--max-objects", 1) == 0
    said = capsys.readouterr().err
    assert len(re.findall("measuring goes on, but an interrupted run would begin anew", said)) == 1
    rows = list(csv.DictReader(io.StringIO((out / "pictures.csv").read_text())))
    assert len(rows) == 8
    assert len(seen) == 4


def test_seconds_of_earlier_runs_count(
    evaluate: Evaluate, interrupt: Callable[..., None], tmp_path: Path, monkeypatch: Any
) -> None:
    now = [0.0]

    def later() -> float:
        now[0] += 1000.0
        return now[0]

    out, options = tmp_path / "out", ["--max-objects", 1]
    with monkeypatch.context() as patched:
        patched.setattr("sam_plugins.model.evaluation.kept_pictures.time.perf_counter", later)
        interrupt("single-point", out, *options)
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    assert evaluate("single-point", out, *options) == 0
    assert json.loads((out / "report.json").read_text())["seconds"] >= 3 * 1000
