"""Trainings on a Dask cluster of real processes: watched, cancelled, surviving a lost worker."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dask_cluster import two_workers
from tests.labelstudio_backend.learning.helpers import KEY, event
from tests.labelstudio_backend.learning.small_project import (
    QUICK,
    TASKS,
    annotated,
    drawn,
    small_settings,
    trainings,
    until,
)

from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.jobs import JobState
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.cluster import opening
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.weights.paths import STORE_VARIABLE

LONG = replace(QUICK, steps=400, rounds=2)
NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with two_workers() as address:
        yield address


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))


def learning_on(
    scheduler: str, folder: Path, options: FineTuningOptions = QUICK
) -> tuple[BackendLearning, Cluster]:
    """A backend's learning with all tasks annotated and a training asked for, and its cluster."""
    cluster = Cluster(Settings(folder=folder / "state", scheduler=scheduler))
    learning = BackendLearning(small_settings(folder, options), fetch=drawn, cluster=cluster)
    for task in range(1, TASKS + 1):
        learning.on_webhook(annotated(task))
    learning.on_webhook(event("START_TRAINING"))
    learning.work()
    return learning, cluster


def processes_of(folder: Path) -> dict[int, int]:
    """The trainers of a folder, and who started each."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if str(folder).encode() in arguments:
            found[int(entry.name)] = parent
    return found


def test_a_training_survives_its_worker_and_ends_as_ever(scheduler: str, tmp_path: Path) -> None:
    learning, cluster = learning_on(scheduler, tmp_path)
    (job,) = trainings(learning)
    assert job["state"] == JobState.RUNNING
    folder = tmp_path / "state" / "projects" / KEY / "trainings" / "1"
    until(learning, (folder / "run" / "state.safetensors").exists)
    ((process, worker),) = processes_of(folder).items()
    assert worker != os.getpid()
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)  # the machine is lost
    until(learning, lambda: trainings(learning)[0]["state"] not in {"running", "wanted"})
    (job,) = trainings(learning)
    assert job["state"] in {JobState.PROMOTED, JobState.KEPT_OUT}, job["message"]
    assert job["starts"] == 1  # the cluster started it again, this backend had nothing to do
    assert [step for step, _ in job["curve"]] == [1, 2, 3, 4]
    assert job["progress"]["steps"] == 4
    learning.close()
    cluster.close()


def test_a_training_is_cancelled_where_it_runs(scheduler: str, tmp_path: Path) -> None:
    learning, cluster = learning_on(scheduler, tmp_path, LONG)
    until(learning, lambda: bool(trainings(learning)[0].get("curve")))
    folder = tmp_path / "state" / "projects" / KEY / "trainings" / "1"
    assert processes_of(folder)
    assert learning.cancel_training(KEY)
    until(learning, lambda: trainings(learning)[0]["state"] == "cancelled", 60)
    assert not processes_of(folder)
    learning.close()
    cluster.close()


def held(_: int) -> bool:
    """Keep a worker busy until it is let go."""
    from distributed import Event

    return bool(Event("let go").wait(timeout=120))


def test_a_training_that_waits_for_a_worker_is_cancelled_at_once(
    scheduler: str, tmp_path: Path
) -> None:
    from distributed import Client, Event

    with Client(scheduler, set_as_default=False) as client:
        busy = client.map(held, [1, 2], pure=False)
        learning, cluster = learning_on(scheduler, tmp_path)
        assert trainings(learning)[0]["state"] == JobState.RUNNING
        assert learning.cancel_training(KEY)
        until(learning, lambda: trainings(learning)[0]["state"] == "cancelled", 60)
        assert not any(one.done() for one in busy)
        sent = [one for one in threading.enumerate() if one.name == "training-of-1"]
        Event("let go", client=client).set()
        client.gather(busy)
    for thread in sent:
        thread.join(timeout=60)  # until a worker came to it
        assert not thread.is_alive()
    folder = tmp_path / "state" / "projects" / KEY / "trainings" / "1"
    assert not (folder / "run").exists()  # it saw that it was over
    learning.close()
    cluster.close()


def test_a_training_is_done_here_where_the_cluster_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "_CONNECT_SECONDS", 1)
    learning, cluster = learning_on(NOWHERE, tmp_path)
    until(learning, lambda: trainings(learning)[0]["state"] not in {"running", "wanted"})
    (job,) = trainings(learning)
    assert job["state"] in {JobState.PROMOTED, JobState.KEPT_OUT}, job["message"]
    assert "the cluster cannot be used, work is done here: cannot reach" in caplog.text
    learning.close()
    cluster.close()
