"""``labelstudio versions|rollback|train|cancel``: found by number, and said in words."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from filelock import FileLock
from tests.labelstudio_backend.learning.small_project import annotated, drawn

from sam_plugins.cli import main
from sam_plugins.labelstudio_backend.learning.database import Database
from sam_plugins.labelstudio_backend.learning.events import EventQueue
from sam_plugins.labelstudio_backend.learning.jobs import Jobs
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.mirror import put_project
from sam_plugins.model.weights.store import ModelStore

KEY = "7.1795850291"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The state of a backend that heard of one project."""
    monkeypatch.setenv("SAM_PLUGINS_LS_FOLDER", str(tmp_path / "backend"))
    database = Database(tmp_path / "backend" / "learning")
    with database.writing() as connection:
        put_project(connection, KEY, {"title": "Cells"})
    return database


def test_versions_are_listed_and_rolled_back(
    database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["labelstudio", "versions"]) == 0
    assert "no version yet" in capsys.readouterr().out
    assert main(["labelstudio", "rollback"]) == 1
    assert "nothing to roll back: project 7 is answered by the first" in capsys.readouterr().err
    store, name = ModelStore(), model_name_of(KEY)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    for number in (1, 2):
        store.add(name, weights, model_id=f"m{number}", note=f"note {number}")
        store.promote(f"{name}@{number}", force=True)
    assert main(["labelstudio", "versions", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["version"], one["in_use"]) for one in found] == [
        (f"{name}@1", False),
        (f"{name}@2", True),
    ]
    assert main(["labelstudio", "rollback"]) == 0
    said = capsys.readouterr().out
    assert f"{name}@1 is in use again" in said
    assert "makes predictions of tasks that nobody has begun anew" in said
    assert main(["labelstudio", "rollback", KEY]) == 1
    said = capsys.readouterr().err
    assert "was in use before" in said
    assert "sam-plugins models promote NAME@NUMBER" in said


def test_a_training_that_waits_is_cancelled(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    Jobs(database).request(KEY, "a test")
    assert main(["labelstudio", "cancel", "7"]) == 0
    assert "ends within moments" in capsys.readouterr().out
    assert main(["labelstudio", "cancel", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"cancelled": False}


def test_a_training_waits_for_the_one_that_runs(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    EventQueue(database).put(annotated(1))  # nobody knows yet how many labels there are
    with FileLock(database.path.parent / "learning.lock"):
        assert main(["labelstudio", "train", "7"]) == 0
        assert "the backend begins within seconds" in capsys.readouterr().out
        (job,) = Jobs(database).wanted()
        Jobs(database).begin(job.number, "")
        assert main(["labelstudio", "train", "7"]) == 0
        assert "begins when the training that runs has ended" in capsys.readouterr().out


def test_too_few_labels_are_told_at_the_request(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(database.path.parent / "learning.lock"):
        assert main(["labelstudio", "train", "7"]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "too few labels: 0 labelled pictures, of which 0 are held out" in said.err
        assert "label at least 10 more" in said.err
        assert not Jobs(database).wanted()


def test_an_unknown_project_is_told(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labelstudio", "rollback", "8"]) == 1
    said = capsys.readouterr().err
    assert "'8' names no project of this" in said
    assert KEY in said
    assert "SAM_PLUGINS_LS_FOLDER" in said


@pytest.mark.slow
def test_without_a_backend_the_command_trains_and_says_what_is_missing(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = EventQueue(database)
    for task in (1, 2):
        payload = annotated(task)
        content = base64.b64encode(drawn("", task, "")).decode()
        payload["task"]["data"] = {"image": f"data:image/png;base64,{content}"}
        queue.put(payload)
    assert main(["labelstudio", "train", "7"]) == 1
    said = capsys.readouterr().out
    assert "no backend runs on this folder" in said
    assert "too few labels: 2 labelled pictures" in said
