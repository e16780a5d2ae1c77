"""``sam-plugins engine`` from labels to a model in use, and what cannot go wrong on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.engine.cells import Run, label_all
from tests.quick_training import make_training_quick

from sam_plugins.cli.app import main
from sam_plugins.model.weights.store import ModelStore


def test_from_labels_to_a_model_in_use(
    project: Run,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_training_quick(monkeypatch)
    assert "training needs labelled pictures to learn from and" in project("train", code=1)
    label_all(project, tmp_path, pictures)
    quick = ["--steps", "30", "--rounds", "1", "--learning-rate", "0.01", "--note", "first"]
    trained = project("train", *quick)
    assert (trained["round"], trained["version"]) == (1, "cells@1")
    assert (trained["pictures"], trained["held_out"], trained["objects"]) == (6, 2, 18)
    assert [one["share"] for one in trained["rounds"]] == [1, 1, 0.6, 0.3]
    status = project("status")
    assert [one["version"] for one in status["rounds"]] == ["cells@1"]
    assert status["rounds"][0]["details"]["work"]["objects"] == 24
    # Two held-out pictures prove nothing.
    assert "is not better beyond doubt" in project("promote", code=1)
    assert status["model"].endswith("tiny.safetensors")
    promoted = project("promote", "--force")
    assert (promoted["version"], promoted["is_in_use"]) == ("cells@1", True)
    assert project("status")["model"] == "cells@1"
    assert ModelStore().find("cells").note == "first"
    # Another project of that name would go on with it.
    other, parent = str(tmp_path / "other"), str(tmp_path / "tiny.safetensors")
    assert main(["engine", "init", other, "--name", "cells", "--model", parent]) == 0
    said = capsys.readouterr()
    assert "project cells, beginning with cells@1" in said.out
    assert "the model store has versions of 'cells' already" in said.err
    # The next training starts from it.
    second = project("train", "--steps", "2", "--rounds", "1", "--learning-rate", "1e-12")
    assert second["version"] is None
    assert second["comparison"]["parent"] == ModelStore().find("cells").model_id


def test_one_job_at_a_time_and_who_it_is(project: Run, pictures: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from sam_plugins.model.engine.project.project import Project
with Project.open({str(tmp_path / "project")!r}) as project, project.job("train"):
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        for action in (["next"], ["run-auto"], ["train"], ["promote"], ["import", pictures]):
            error = project(*action, code=1)
            assert "another job is at work on" in error
            assert "'train' by " in error
            assert f"(process {other.pid}), since 20" in error
        assert "'train' by" in project("status")["job"]
        # People go on labelling.
        project("label", "cells-0a.png", "--complete")
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait() == 0
    assert project("next")["next"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["next", "P", "--count", "0"], "--count and --max-pool must be 1 or more"),
        (["next", "P", "--weights", "1,2"], "must be three numbers such as 1,1,0.5: not enough"),
        (["next", "P", "--weights", "0,0,0"], "weights must be 0 or more and one of them above"),
        (["next", "P", "--min-score", "2"], "--min-score must lie between 0 and 1, got 2"),
        (["label", "P", "a"], "give --labels, --prompts, --accept-all, --complete"),
        (["label", "P", "a", "--labels", "b", "--accept-all"], "--labels says it all"),
        (["label", "P", "a", "--complete", "--keep"], "--keep belongs to --labels"),
        (["label", "P", "a", "--complete", "--seconds", "-1"], "seconds must be 0 or more"),
        (["import", "P", "a", "--labels", "b"], "--labels belongs to --format labels"),
        (["import", "P", "a", "--images", "b"], "--images belongs to --format coco"),
        (["import", "P", "a", "b", "--format", "coco"], "takes one SOURCE, got 2"),
        (["import", "P", "a", "--group", "("], "--group: "),
        (["init", "P", "--name", "cells", "--held-out", "1"], "--held-out must lie between 0 and"),
        (["run-auto", "P", "--limit", "0"], "--limit must be 1 or more, got 0"),
        (["promote", "P", "--version", "-1"], "--version: versions are counted from 1, got '-1'; "),
        (["promote", "P", "--version", "0"], "--version: versions are counted from 1, got '0'; "),
        (["train", "P", "--rounds", "9", "--steps", "3"], "--rounds must lie between 1 and --st"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["engine", *arguments])
    assert message in capsys.readouterr().err


def test_a_folder_without_a_project_is_told(tmp_path: Path, run: Run) -> None:
    assert "holds no project of the data engine" in run("status", code=1)
    assert "must be 1 to 64 of a-z" in run("init", "--name", "No Name", code=1)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "project.sqlite").write_bytes(b"something else entirely" * 50)
    assert "check that the disk has space" in run("status", code=1)
    unknown = run("init", "--name", "cells", "--model", "no-such-model", code=1)
    assert "no-such-model" in unknown


def test_people_read_it_too(
    project: Run, bright: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "project")
    assert main(["engine", "next", folder, "--count", "2", "--propose", "--min-score", "0"]) == 0
    printed = capsys.readouterr().out
    assert "DISAGREEMENT" in printed
    assert "learning" in printed
    assert main(["engine", "label", folder, "cells-0a.png", "--accept-all"]) == 0
    assert main(["engine", "run-auto", folder, "--limit", "1"]) == 0
    assert "are left" in capsys.readouterr().out
    assert main(["engine", "status", folder]) == 0
    printed = capsys.readouterr().out
    assert "of 6 pictures labelled" in printed
    assert main(["engine", "status", folder, "--image", "cells-0a.png"]) == 0
    assert "cells-0a.png (" in capsys.readouterr().out
