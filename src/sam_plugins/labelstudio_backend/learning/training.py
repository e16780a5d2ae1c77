"""Trainings are started, watched, started again after a crash, and cancelled."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.learning import trainer
from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.jobs import Jobs, JobState, TrainingJob
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.trainer_process import (
    TrainerProcess,
    order_of,
    start_trainer,
)
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.io.atomic import make_folder, write_bytes

_LOG = logging.getLogger(__name__)
_MOST_STARTS = 3
_START_SECONDS = 120.0
_CURVE_POINTS = 200


@dataclass(frozen=True)
class TrainingSettings:
    """How models are trained for Label Studio.

    Parameters
    ----------
    options : FineTuningOptions
    device : str or None
        As for ``sam-plugins train``.
    threads : int
        Of the trainer on the CPU.
    niceness : int
        Added to the trainer's, so that whoever clicks goes first.
    """

    options: FineTuningOptions = field(default_factory=FineTuningOptions)
    device: str | None = None
    threads: int = max(1, (os.cpu_count() or 2) // 2)
    niceness: int = 10


class Trainings:
    """The trainings of all projects, each in a process of its own that outlives this one.

    Parameters
    ----------
    database : Database
    settings : TrainingSettings
    cluster : Cluster, optional
        Where trainers run, if it is wanted and can be reached.
    """

    def __init__(
        self, database: Database, settings: TrainingSettings, cluster: Cluster | None = None
    ) -> None:
        self.jobs = Jobs(database)
        self._settings = settings
        self._cluster = cluster
        self._processes: dict[int, TrainerProcess] = {}

    def start(self, job: TrainingJob, project_folder: Path) -> None:
        """Start a training that was asked for.

        Raises
        ------
        OutputError
            If its folder cannot be written.
        """
        from sam_plugins.model.engine.run_config import RunConfig

        folder = project_folder / "trainings" / f"{job.number}"
        config = RunConfig(
            name=model_name_of(job.project),
            data=str(project_folder),
            note=job.reason,
            device=self._settings.device,
            training=self._settings.options,
        )
        request = {
            "project": str(project_folder),
            "config": config.to_yaml(),
            "threads": self._settings.threads,
            "niceness": self._settings.niceness,
        }
        make_folder(folder)
        write_bytes(folder / trainer.REQUEST_NAME, json.dumps(request, indent=1).encode())
        self._launch(job.number, folder)
        _LOG.info("training %d of project %s begins: %s", job.number, job.project, job.reason)

    def watch(self) -> list[TrainingJob]:
        """Note what ended, and start again what was killed; return the trainings that ended."""
        ended = []
        for job in self.jobs.in_state(JobState.RUNNING):
            folder = Path(job.folder)
            outcome = _read(folder / trainer.OUTCOME_NAME)
            if outcome is not None:
                self._end(job, JobState(outcome["state"]), outcome["message"], outcome["version"])
            elif self._is_alive(job):
                continue
            elif (folder / trainer.CANCEL_NAME).exists():
                self._end(job, JobState.CANCELLED, "cancelled")
            elif job.starts >= _MOST_STARTS:
                self._end(job, JobState.FAILED, _last_words(folder, job.starts))
            else:
                _LOG.warning("training %d was killed; it is started again", job.number)
                self._launch(job.number, folder)
                continue
            ended.append(job)
        return ended

    def cancel(self, project: str) -> bool:
        """Cancel what runs or waits of a project; return whether there was anything.

        A trainer that runs ends within moments, at most with the picture that it measures.

        Raises
        ------
        OutputError
            If the order cannot be written.
        """
        found = False
        for job in self.jobs.of_project(project):
            if job.state == JobState.WANTED:
                self._end(job, JobState.CANCELLED, "cancelled before it began")
                found = True
            elif job.state == JobState.RUNNING:
                write_bytes(Path(job.folder) / trainer.CANCEL_NAME, b"")
                found = True
        return found

    def status(self, project: str) -> list[dict[str, Any]]:
        """Return the trainings of a project with progress and curve, the newest first."""
        return [_described(job) for job in self.jobs.of_project(project)]

    def _launch(self, number: int, folder: Path) -> None:
        """Start the process of a training; the order is written down first."""
        self.jobs.begin(number, str(folder))
        process = start_trainer(order_of(folder, self._settings.threads), self._cluster)
        # It may outlive everything here; while it does not, somebody has to take its end in.
        threading.Thread(target=process.wait, name=f"training-{number}", daemon=True).start()
        self._processes[number] = process
        self.jobs.note_process(number, process.pid)

    def _is_alive(self, job: TrainingJob) -> bool:
        """Return whether the process of a training is at work."""
        process = self._processes.get(job.number)
        if process is not None and process.poll() is None:
            return True
        # One whose worker or scheduler was lost, and one of a backend that is gone, works on.
        if _is_locked(Path(job.folder) / trainer.LOCK_NAME):
            return True
        if process is not None:
            return False
        # Started by a backend that is gone: it may be importing still.
        age = now() - (job.started_at or 0.0)
        return job.process > 0 and age < _START_SECONDS and _exists(job.process)

    def _end(self, job: TrainingJob, state: JobState, message: str, version: str = "") -> None:
        """Note what became of a training."""
        self.jobs.end(job.number, state, message, version)
        _LOG.info("training %d of project %s: %s: %s", job.number, job.project, state, message)
        process = self._processes.pop(job.number, None)
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)


def _described(job: TrainingJob) -> dict[str, Any]:
    """Return a training for people and programs."""
    described: dict[str, Any] = {
        key: value for key, value in asdict(job).items() if key not in {"folder", "project"}
    }
    described["state"] = str(job.state)
    if not job.folder:
        return described
    folder = Path(job.folder)
    described["progress"] = _read(folder / trainer.PROGRESS_NAME)
    described["rounds"] = [
        {"step": one["step"], "share": one.get("share", 1.0), **one["figures"]}
        for one in _read(folder / trainer.RUN_NAME / "rounds.json") or []
    ]
    described["curve"] = _curve(folder / trainer.RUN_NAME)
    return described


def _curve(run: Path) -> list[tuple[int, float]]:
    """Return steps and losses, at most so many."""
    from sam_plugins.model.engine.run_folder import RunFolder

    try:
        rows = RunFolder(run).log()
    except OSError:
        return []
    points = [(int(row["step"]), float(row["loss"])) for row in rows if row.get("loss")]
    return points[:: max(1, -(-len(points) // _CURVE_POINTS))]


def _read(path: Path) -> Any:  # noqa: ANN401
    """Read a document that may not be there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last_words(folder: Path, starts: int) -> str:
    """Return why a trainer ended that left no outcome."""
    log = folder / trainer.LOG_NAME
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = f": {lines[-1][:300]}" if lines else ""
    return (
        f"the trainer ended {starts} times without an outcome{said}; it may have been killed, for "
        f"want of memory or disk perhaps; see {log}"
    )


def _is_locked(path: Path) -> bool:
    """Return whether a trainer holds its lock."""
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _exists(process: int) -> bool:
    """Return whether there is a process of that number."""
    if os.name == "nt":  # There, this would end it.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
