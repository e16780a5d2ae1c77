"""Trainings: in a process of their own, killed, resumed, cancelled, promoted only if better."""

from __future__ import annotations

import _thread
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.labelstudio_backend.learning.helpers import KEY, event
from tests.labelstudio_backend.learning.small_project import (
    QUICK,
    TASKS,
    annotated,
    small_learning,
    trainings,
    until,
)

from sam_plugins.errors import DatasetError, LabelStudioError
from sam_plugins.labelstudio_backend.learning import backend, promotion, trainer
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.database import Database
from sam_plugins.labelstudio_backend.learning.jobs import JobState
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.promotion import finish
from sam_plugins.labelstudio_backend.learning.schedule import request_due
from sam_plugins.model.engine import fine_tuning
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.runs import train_run
from sam_plugins.model.weights.store import ModelStore

NAME = model_name_of(KEY)
LONG = replace(QUICK, steps=400, rounds=2)


def labelled(learning: BackendLearning) -> BackendLearning:
    """Annotate the tasks, and ask for a training."""
    for task in range(1, TASKS + 1):
        learning.on_webhook(annotated(task))
    learning.on_webhook(event("START_TRAINING"))
    return learning


def test_a_killed_trainer_goes_on_and_a_restarted_backend_finds_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sam_plugins.labelstudio_backend")
    learning = labelled(small_learning(tmp_path))
    learning.work()
    (job,) = trainings(learning)
    assert job["state"] == JobState.RUNNING
    run = tmp_path / "state" / "projects" / KEY / "trainings" / "1" / "run"
    until(learning, (run / "state.safetensors").exists)
    process = trainings(learning)[0]["process"]
    nice = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[16])
    assert nice > os.getpriority(os.PRIO_PROCESS, 0)  # By one: more starves it where much is done.
    os.kill(process, signal.SIGKILL)
    learning.close()  # The backend dies, too; another one starts.
    again = small_learning(tmp_path)
    until(again, lambda: trainings(again)[0]["state"] not in {"running", "wanted"})
    (job,) = trainings(again)
    assert job["starts"] == 2
    told = [one for one in caplog.messages if one.startswith("training 1")]
    assert told == [
        f"training 1 of project {KEY} begins: asked for in Label Studio",
        "training 1 was killed; it is started again",
        f"training 1 of project {KEY}: {job['state']}: {job['message']}",
    ]
    assert job["state"] in {JobState.PROMOTED, JobState.KEPT_OUT}, job["message"]
    rounds = [(one["step"], one["share"]) for one in job["rounds"]]
    assert rounds == [(0, 1), (2, 1), (4, 1), (4, 0.6), (4, 0.3)]
    assert [step for step, _ in job["curve"]] == [1, 2, 3, 4]
    with Project.open(run.parents[2]) as project:
        assert len(project.state.rounds()) == 1
    json.dumps(again.status())
    again.close()


@pytest.mark.slow
def test_a_training_is_cancelled_and_another_can_begin(tmp_path: Path) -> None:
    learning = labelled(small_learning(tmp_path, LONG))
    until(learning, lambda: bool(trainings(learning)[0].get("curve")))
    progress = trainings(learning)[0]["progress"]
    assert progress["steps"] == 400
    learning.on_webhook(event("START_TRAINING"))  # While one runs, the next one waits.
    learning.work()
    assert [one["state"] for one in trainings(learning)] == ["wanted", "running"]
    assert learning.cancel_training(KEY)
    until(learning, lambda: trainings(learning)[1]["state"] == "cancelled", 60)
    assert [one["state"] for one in trainings(learning)] == ["cancelled", "cancelled"]
    assert learning.versions(KEY) == []
    assert not learning.cancel_training(KEY)
    learning.close()


@pytest.mark.slow
def test_a_trainer_that_always_dies_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = labelled(small_learning(tmp_path))
    learning.work()
    folder = tmp_path / "state" / "projects" / KEY / "trainings" / "1"
    (folder / "request.json").write_text("{}")
    until(learning, lambda: trainings(learning)[0]["state"] == "failed")
    assert "ended 3 times without an outcome: KeyError" in trainings(learning)[0]["message"]
    learning.close()


def test_too_few_labels_are_said(tmp_path: Path) -> None:
    learning = small_learning(tmp_path)
    for task in (1, 2, 3):
        learning.on_webhook(annotated(task))
    learning.work()
    folder = tmp_path / "state" / "projects" / KEY
    job = folder / "trainings" / "1"
    job.mkdir(parents=True)
    # Of this very process, in which other tests compare sums that depend on the threads.
    threads = torch.get_num_threads()
    request = {"project": str(folder), "config": "", "threads": threads, "niceness": 0}
    (job / "request.json").write_text(json.dumps(request))
    assert trainer.main(job) == 0
    outcome = json.loads((job / "outcome.json").read_text())
    assert outcome["state"] == JobState.WAITING
    assert "3 labelled pictures, of which" in outcome["message"]
    assert "label at least 7 more" in outcome["message"]
    learning.close()


def test_what_a_training_would_refuse_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = small_learning(tmp_path)
    for task in (1, 2, 3):
        learning.on_webhook(annotated(task))
    learning.require_enough_labels(KEY)  # events wait: nobody knows
    learning.work()
    with pytest.raises(DatasetError, match=r"3 labelled pictures, .* label at least 7 more"):
        learning.require_enough_labels(KEY)
    with Project.open(tmp_path / "state" / "projects" / KEY) as project:
        assert {one.split for one in project.labels.images()} == {None}  # only looked at

    def unreachable(*_: object) -> None:
        raise LabelStudioError("it does not answer")

    def missed(*_: object) -> None:
        for task in range(4, TASKS + 1):
            learning.on_webhook(annotated(task))

    monkeypatch.setattr(learning, "_api", object())
    monkeypatch.setattr(backend, "reconcile", unreachable)
    learning.require_enough_labels(KEY)
    monkeypatch.setattr(backend, "reconcile", missed)
    learning.require_enough_labels(KEY)  # Label Studio has more
    monkeypatch.setattr(learning, "_api", None)
    learning.work()
    learning.require_enough_labels(KEY)
    learning.close()


def test_annotations_are_counted_until_it_is_time(tmp_path: Path) -> None:
    learning = small_learning(tmp_path)
    for task in (1, 2, 2, 3):
        learning.on_webhook(annotated(task))
    learning.on_webhook(event("ANNOTATIONS_DELETED", annotations=[{"id": 3}]))
    learning.work()
    database = Database(tmp_path / "state")
    moment = datetime(2026, 5, 2, 12, 0, tzinfo=UTC)
    assert request_due(database, moment, train_every=4) == []
    assert request_due(database, moment, train_every=3) == [KEY]
    assert trainings(learning)[0]["reason"] == "3 new annotations"
    assert request_due(database, moment, train_every=3) == []  # It waits already.
    learning.close()


def test_a_time_of_day_comes_once_a_day_and_only_with_something_new(tmp_path: Path) -> None:
    learning = small_learning(tmp_path)
    learning.on_webhook(annotated(1))
    learning.work()
    database = Database(tmp_path / "state")

    def due(day: int, hour: int) -> list[str]:
        return request_due(database, datetime(2026, 5, day, hour, tzinfo=UTC), train_at="02:30")

    assert due(1, 12) == []  # Heard of today, it waits for the night.
    assert due(1, 23) == []
    assert due(2, 3) == [KEY]
    with database.writing() as connection:
        connection.execute("DELETE FROM trainings")
    assert due(2, 4) == []
    assert due(3, 3) == [KEY]
    with database.writing() as connection:
        connection.execute("DELETE FROM trainings")
        connection.execute("UPDATE projects SET annotations_since_training = 0")
    assert due(4, 3) == []
    learning.close()


# ------------------------------------------------------------------------------------- promotion


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A complete run whose every round is better on each of six held-out pictures."""

    def measured(_model: Any, step: int, **_: Any) -> Round:
        return Round(step, {str(n): 0.5 + step / 100 + n / 1e4 for n in range(6)}, {"box": 0.5})

    monkeypatch.setattr(fine_tuning, "measure_round", measured)
    learning = labelled(small_learning(tmp_path))
    monkeypatch.setattr(learning._trainings, "_launch", lambda number, folder: None)
    learning.work()
    learning.close()
    folder = tmp_path / "state" / "projects" / KEY
    request = json.loads((folder / "trainings" / "1" / "request.json").read_text())
    with Project.open(folder) as project:
        run = trainer._run_of(folder / "trainings" / "1", request, project)
        train_run(run)
    return run


def finished(run: RunFolder) -> Any:
    """Finish a run."""
    with Project.open(run.path.parents[2]) as project:
        return finish(project, run)


def test_a_better_model_comes_into_use_and_goes_again(trained: RunFolder, tmp_path: Path) -> None:
    outcome = finished(trained)
    assert (outcome.state, outcome.version) == (JobState.PROMOTED, f"{NAME}@1")
    swapped: list[tuple[str, str]] = []
    learning = small_learning(tmp_path)
    learning._swap_model = lambda key, model: swapped.append((key, model))
    learning.work()
    assert learning.versions(KEY) == learning.versions() == [f"{NAME}@2", f"{NAME}@1"]
    assert learning.model_of(KEY) == f"{NAME}@1"
    learning.roll_back(KEY)
    learning.work()
    learning.work()
    assert swapped == [(KEY, f"{NAME}@1"), (KEY, f"{NAME}@2")]
    before = ModelStore().find(f"{NAME}@2")
    assert before.note == "the model to begin with, to roll back to"
    assert before.model_id == trained.parent_id
    learning.close()


def test_a_model_that_is_not_better_is_kept_out(trained: RunFolder) -> None:
    rounds = [replace(one, pictures={"a": 0.5 + one.step / 100}) for one in trained.rounds()]
    trained.write_rounds(rounds)  # One picture tells nothing.
    outcome = finished(trained)
    assert (outcome.state, outcome.version) == (JobState.KEPT_OUT, f"{NAME}@1")
    assert "is not better beyond doubt" in outcome.message
    trained.write_rounds([replace(one, pictures={"a": 0.5}) for one in rounds])
    assert "after no round was it better" in finished(trained).message


@pytest.mark.parametrize(
    "step",
    [
        "promote 2",
        pytest.param("add 1", marks=pytest.mark.slow),
        pytest.param("add 2", marks=pytest.mark.slow),
        pytest.param("promote 1", marks=pytest.mark.slow),
        pytest.param("written 1", marks=pytest.mark.slow),
    ],
)
def test_kill_9_during_a_promotion_leaves_one_model_in_use_and_goes_on(
    trained: RunFolder, step: str
) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sam_plugins.labelstudio_backend.learning.promotion import finish\n"
        "from sam_plugins.model.engine.project.project import Project\n"
        "from sam_plugins.model.engine.run_folder import RunFolder\n"
        "from sam_plugins.model.weights.store import ModelStore\n"
        "kind, count = sys.argv[2].split()\n"
        "name = {'written': '_write_history'}.get(kind, kind)\n"
        "real, calls = getattr(ModelStore, name), []\n"
        "def deadly(*args, **others):\n"
        "    calls.append(1)\n"
        "    if len(calls) == int(count) and kind != 'written':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    result = real(*args, **others)\n"
        "    if len(calls) == int(count):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return result\n"
        "setattr(ModelStore, name, deadly)\n"
        "run = RunFolder.open(Path(sys.argv[1]))\n"
        "with Project.open(run.path.parents[2]) as project:\n"
        "    finish(project, run)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(trained.path), step], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = ModelStore()
    assert sum(one.is_in_use for one in store.versions(NAME)) <= 1
    outcome = finished(trained)
    assert outcome.state == JobState.PROMOTED
    assert str(store.find(NAME)) == outcome.version
    assert len(store.versions(NAME)) == 2
    assert store.rollback(NAME).model_id == trained.parent_id


@pytest.mark.parametrize(
    ("owner", "name", "state"),
    [(trainer, "_run_of", JobState.CANCELLED), (promotion, "finish", JobState.PROMOTED)],
)
def test_a_training_that_ends_as_it_is_cancelled_has_an_outcome(
    trained: RunFolder, owner: Any, name: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before it comes into use, it does not; afterwards, it was not cancelled."""
    job = trained.path.parent
    real = getattr(owner, name)

    def cancelled_at_its_end(*args: Any) -> Any:
        result = real(*args)
        (job / "cancel").touch()
        _thread.interrupt_main()  # as the watcher does that sees it at this moment
        return result

    monkeypatch.setattr(owner, name, cancelled_at_its_end)
    request = json.loads((job / "request.json").read_text())
    request |= {"threads": torch.get_num_threads(), "niceness": 0}  # of this very process
    (job / "request.json").write_text(json.dumps(request))
    before = signal.getsignal(signal.SIGINT)
    assert trainer.main(job) == 0
    assert signal.getsignal(signal.SIGINT) == before
    outcome = json.loads((job / "outcome.json").read_text())
    assert outcome["state"] == state
    in_use = [str(one) for one in ModelStore().versions(NAME) if one.is_in_use]
    assert in_use == ([outcome["version"]] if outcome["version"] else [])


def test_no_interrupt_comes_once_it_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_LOOK_SECONDS", 0.0)
    cancel = tmp_path / "cancel"
    for number in range(200):
        cancel.unlink(missing_ok=True)
        is_done = False
        try:
            with trainer._Interrupts(cancel) as interrupts:
                cancel.touch()
                sum(range(number * 50))  # now it comes before, now during, now after
                interrupts.ignore()
                is_done = True
        except KeyboardInterrupt:
            assert not is_done


def test_a_full_disk_at_the_end_is_said_and_the_model_in_use_stays(
    trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trained.path.parent

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sam_plugins.model.weights.store.shutil.copyfile", full)
    request = json.loads((job / "request.json").read_text())
    outcome = trainer._outcome(job, request, trainer._Interrupts(job / "cancel"))
    assert outcome["state"] == JobState.FAILED
    assert "No space left on device" in outcome["message"]
    assert ModelStore().versions(NAME) == []


def test_one_process_works_and_the_others_wait(tmp_path: Path) -> None:
    one, other = small_learning(tmp_path), small_learning(tmp_path)
    one.work()
    other.on_webhook(annotated(1))
    other.work()
    assert other.status()["events_waiting"] == 1
    assert other.is_at_work()
    one.work()
    assert other.status()["events_waiting"] == 0
    one.close()
    other.on_webhook(annotated(2))
    other.work()
    assert other.status()["projects"][KEY]["annotations"] == 2
    other.close()
