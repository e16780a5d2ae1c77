"""One training in a process of its own: ``python -m ...trainer FOLDER``.

FOLDER holds ``request.json``, which says what to do. The trainer writes ``progress.json``, the
folder ``run`` of the training itself, and ``outcome.json`` at its end; ``cancel`` is for others to
make. Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import filelock

from sam_plugins.errors import DatasetError, SamPluginsError, is_out_of_memory
from sam_plugins.model.io.atomic import write_bytes

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.learning.promotion import Outcome
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.run_folder import RunFolder
    from sam_plugins.model.engine.tuning_progress import TrainingProgress

REQUEST_NAME = "request.json"
PROGRESS_NAME = "progress.json"
OUTCOME_NAME = "outcome.json"
CANCEL_NAME = "cancel"
LOCK_NAME = "alive.lock"
RUN_NAME = "run"
LOG_NAME = "trainer.log"
_PROGRESS_SECONDS = 0.5
_LOOK_SECONDS = 0.3


def main(folder: Path) -> int:
    """Train what the folder asks for; return the exit code."""
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=1.0)  # Who looks whether somebody is at work holds it for a moment.
    except filelock.Timeout:
        return 0  # Another one does it already.
    with lock:
        request = json.loads((folder / REQUEST_NAME).read_text(encoding="utf-8"))
        _lower_priority(int(request["niceness"]), int(request["threads"]))
        with _Interrupts(folder / CANCEL_NAME) as interrupts:
            outcome = _outcome(folder, request, interrupts)
            write_bytes(folder / OUTCOME_NAME, json.dumps(outcome, indent=1).encode())
    return 0


def _outcome(folder: Path, request: Mapping[str, Any], interrupts: _Interrupts) -> dict[str, str]:
    """Train unless it is cancelled, and say what came of it; nothing interrupts after that."""
    from sam_plugins.labelstudio_backend.learning.jobs import JobState

    try:
        outcome = _uncancelled_outcome(folder, request, interrupts)
        interrupts.ignore()
    except KeyboardInterrupt:
        interrupts.ignore()
        if not (folder / CANCEL_NAME).exists():
            raise
        return {"state": JobState.CANCELLED, "message": "cancelled", "version": ""}
    return outcome


def _uncancelled_outcome(
    folder: Path, request: Mapping[str, Any], interrupts: _Interrupts
) -> dict[str, str]:
    """Train, and say what came of it."""
    from sam_plugins.labelstudio_backend.learning.jobs import JobState

    try:
        outcome = _trained(folder, request, interrupts)
    except DatasetError as error:
        return {"state": JobState.WAITING, "message": str(error), "version": ""}
    except SamPluginsError as error:
        return {"state": JobState.FAILED, "message": str(error), "version": ""}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = f"memory ran out ({error}): train with fewer threads, or on a larger machine"
        return {"state": JobState.FAILED, "message": message, "version": ""}
    return {"state": outcome.state, "message": outcome.message, "version": outcome.version}


def _trained(folder: Path, request: Mapping[str, Any], interrupts: _Interrupts) -> Outcome:
    """Train from where the run is, and bring its model into use if it is better."""
    from sam_plugins.labelstudio_backend.learning.promotion import finish
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.runs import train_run
    from sam_plugins.model.engine.tuning_progress import TrainingProgress

    with Project.open(request["project"]) as project, project.job("train for Label Studio"):
        project.models.require_writable(project.settings.name)
        run = _run_of(folder, request, project)
        if not run.is_complete:
            report = _Reporter(folder / PROGRESS_NAME)
            # The first figures, of the model in use, take a while.
            before = (0, len(run.files()[1]))
            report(TrainingProgress(0, run.config.training.steps, figures={}, measuring=before))
            result = train_run(run, on_progress=report)
            if result.stopped_by is not None:
                raise result.stopped_by  # Cancelled after a better round: nothing is promoted.
        interrupts.ignore()  # What comes into use now was not cancelled.
        outcome = finish(project, run)
        _note_round(project, run, outcome)
        return outcome


def _run_of(folder: Path, request: Mapping[str, Any], project: Project) -> RunFolder:
    """Return the folder of the run, one that began before or a new one."""
    from sam_plugins.labelstudio_backend.learning.splits import divide, require_enough
    from sam_plugins.model.engine.project.learning import labelled_files
    from sam_plugins.model.engine.run_config import RunConfig
    from sam_plugins.model.engine.run_folder import CONFIG_NAME, RunFolder
    from sam_plugins.model.weights.loading import load_checkpoint

    path = folder / RUN_NAME
    if (path / CONFIG_NAME).is_file():
        return RunFolder.open(path)
    is_first = not project.state.rounds()
    require_enough(divide(project.labels, share=project.settings.held_out_share, is_first=is_first))
    train_files, held_out = labelled_files(project)
    parent = project.model_name()
    config = replace(RunConfig.from_yaml(request["config"], "the request"), parent=parent)
    for leftover in path.glob("*") if path.is_dir() else ():  # of a trainer killed at its start
        leftover.unlink()
    return RunFolder.create(path, config, load_checkpoint(parent), train_files, held_out)


def _note_round(project: Project, run: RunFolder, outcome: Outcome) -> None:
    """Write the training into the project's history, once."""
    rounds = project.state.rounds()
    if any(one.details.get("run") == str(run.path) for one in rounds):
        return
    train_files, held_out = run.files()
    project.state.put_round(
        run.parent_id,
        outcome.version or None,
        pictures=len(train_files),
        objects=0,
        seconds=run.seconds,
        details={
            "run": str(run.path),
            "held_out": len(held_out),
            "outcome": outcome.state,
            "message": outcome.message,
        },
    )


class _Reporter:
    """Write how far a training is, now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self, progress: TrainingProgress) -> None:
        moment = time.monotonic()
        if progress.figures is None and moment - self._last < _PROGRESS_SECONDS:
            return
        self._last = moment
        values = {
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.loss,
            "seconds_left": progress.seconds_left,
            "measuring": _told(progress.measuring),
        }
        write_bytes(self._path, json.dumps(values).encode())


def _told(measuring: tuple[int, int] | None) -> str | None:
    """Say how far the measuring of a round is."""
    return None if measuring is None else f"{measuring[0]} of {measuring[1]} held-out pictures"


def _lower_priority(niceness: int, threads: int) -> None:
    """Leave the machine to those who click."""
    if hasattr(os, "nice"):
        os.nice(niceness)
    import torch

    torch.set_num_threads(threads)


class _Interrupts:
    """Interrupts the block when a file is made, until it is told to ignore that.

    The interrupt is a signal, which Python handles in the thread of the block: it comes before
    :meth:`ignore`, or not at all. One that is under way at that moment is ignored as well.
    """

    def __init__(self, cancel: Path) -> None:
        self._cancel = cancel
        self._ended = threading.Event()
        self._is_ignored = False
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def ignore(self) -> None:
        """Interrupt no more."""
        self._is_ignored = True

    def __enter__(self) -> Self:
        # A backend that a shell started with "&" ignores it, and so would what it starts.
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ignored = True
        self._ended.set()
        self._watcher.join()
        # One that was sent before that is handled before the handler changes.
        signal.signal(signal.SIGINT, self._before)

    def _watch(self) -> None:
        """Send the signal when the file is there."""
        while not self._ended.wait(_LOOK_SECONDS):
            if self._cancel.exists():
                _thread.interrupt_main()
                return

    def _on_signal(self, *_: object) -> None:
        """Interrupt, unless that is ignored."""
        if not self._is_ignored:
            raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
