"""Where a trainer runs: a process of this machine, or one that a worker of the cluster starts.

Both work in the folder of the training, and tell of their progress and end there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.cluster import Cluster, done_or_here
from sam_plugins.labelstudio_backend.learning import trainer
from sam_plugins.model.cluster.outcome import Kept
from sam_plugins.model.weights.paths import STORE_VARIABLE, store_directory

_PAUSE_SECONDS = 1.0


class TrainerProcess(Protocol):
    """A trainer that was started."""

    @property
    def pid(self) -> int:
        """Its number on this machine; 0 where it is on another."""

    def poll(self) -> int | None:
        """Return the exit code; None while it is at work, or waits for a worker."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired` after so many seconds."""


@dataclass(frozen=True)
class TrainerOrder:
    """A training that is to be done.

    Parameters
    ----------
    folder : str
        Of the training, under the same path wherever it is done.
    variables : mapping
        Of the environment, that differ from those of a worker.
    """

    folder: str
    variables: Mapping[str, str]


def start_trainer(order: TrainerOrder, cluster: Cluster | None) -> TrainerProcess:
    """Start a trainer, on the cluster where that is wanted and can be reached."""
    if cluster is not None and cluster.is_wanted:
        return _OnCluster(order, cluster)
    return _start_here(order)


def order_of(folder: Path, threads: int) -> TrainerOrder:
    """Return what a trainer is told: threads, and where the models are that people trained."""
    variables = {"OMP_NUM_THREADS": str(threads), STORE_VARIABLE: str(store_directory().absolute())}
    return TrainerOrder(str(folder.absolute()), variables)


def train_there(kept: Kept, order: TrainerOrder) -> int:
    """Train in a process of a worker's machine, and wait; return its exit code.

    A trainer outlives the worker that started it. Where one is at work, as after the loss of a
    worker, its end is waited for.
    """
    del kept
    folder = Path(order.folder)
    while not _is_over(folder):
        code = _start_here(order).wait()
        if code:
            return code
        if not _is_over(folder):  # another one holds the lock
            time.sleep(_PAUSE_SECONDS)
    return 0


def _is_over(folder: Path) -> bool:
    """Return whether nothing more is to be done."""
    return _was_never_begun(folder) or (folder / trainer.OUTCOME_NAME).exists()


def _was_never_begun(folder: Path) -> bool:
    """Return whether a training was cancelled before any trainer came to it."""
    return (folder / trainer.CANCEL_NAME).exists() and not (folder / trainer.LOCK_NAME).exists()


def _start_here(order: TrainerOrder) -> subprocess.Popen[bytes]:
    """Start a trainer on this machine."""
    folder = Path(order.folder)
    with (folder / trainer.LOG_NAME).open("ab") as log:
        return subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", trainer.__name__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **order.variables},
            start_new_session=True,
        )


class _OnCluster:
    """A trainer on a cluster, or here where the cluster is away."""

    pid = 0

    def __init__(self, order: TrainerOrder, cluster: Cluster) -> None:
        self._order = order
        self._cluster = cluster
        self._code: int | None = None
        self._done = threading.Event()
        name = f"training-of-{Path(order.folder).name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def poll(self) -> int | None:
        """Return the exit code; one that is cancelled before a worker took it is over, too."""
        if self._done.is_set():
            return self._code
        return 0 if _was_never_begun(Path(self._order.folder)) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self.poll() is None and not self._done.wait(timeout):
            raise subprocess.TimeoutExpired(trainer.__name__, timeout or 0.0)
        return self._code or 0

    def _run(self) -> None:
        """Send it, and wait."""
        try:
            self._code = done_or_here(
                self._cluster, train_there, self._order, lambda: _start_here(self._order).wait()
            )
        except SamPluginsError as error:
            self._code = 1
            with (Path(self._order.folder) / trainer.LOG_NAME).open("a", encoding="utf-8") as log:
                log.write(f"{error}\n")
        finally:
            self._done.set()
