"""How far batches are, for people and for what has to wait until a batch is stored."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 20
"""Batches, and however many more go on."""

_STORING_SECONDS = 60.0
"""Label Studio stores an answer of hundreds of predictions in less."""


@dataclass(eq=False)
class Progress:
    """How far a batch is.

    Parameters
    ----------
    project : str
    model : str
        What its predictions are made with.
    reason : str
        Why it was begun.
    total, done, failed, posted : int
        Tasks.
    began, ended, answered : float
        When it was begun, its last task was done, and whoever asked for it was answered; 0 before.
    """

    project: str
    model: str
    reason: str
    total: int
    done: int = 0
    failed: int = 0
    posted: int = 0
    began: float = field(default_factory=time.time)
    ended: float = 0.0
    answered: float = 0.0

    def may_store(self, now: float) -> bool:
        """Return whether a prediction of it may still reach Label Studio."""
        if not (self.ended and self.answered):
            return True
        return now < max(self.ended, self.answered) + _STORING_SECONDS


class BatchLog:
    """The last batches, and all that go on; safe with threads."""

    def __init__(self) -> None:
        self._batches: list[Progress] = []
        self._lock = threading.Lock()

    def begin(self, project: str, model: str, reason: str, total: int) -> Progress:
        """Return the progress of a batch that begins, shown from now on."""
        progress = Progress(project, model, reason, total)
        with self._lock:
            over = [one for one in self._batches if one.ended and one.answered]
            dropped = set(over[: len(self._batches) + 1 - _SHOWN])
            self._batches = [*(one for one in self._batches if one not in dropped), progress]
        return progress

    def count(self, progress: Progress, *, failed: bool) -> None:
        """Count a task that is done."""
        with self._lock:
            progress.done += 1
            progress.failed += failed
            if progress.done == progress.total:
                progress.ended = time.time()

    def count_posted(self, progress: Progress) -> None:
        """Count a prediction that was stored through the API."""
        with self._lock:
            progress.posted += 1

    def may_store(self, project: str, *, other_than: str) -> bool:
        """Return whether predictions of other models may still reach a project."""
        now = time.time()
        with self._lock:
            return any(
                one.project == project and one.model != other_than and one.may_store(now)
                for one in self._batches
            )

    def documents(self) -> list[dict[str, Any]]:
        """Return how far they are, newest first."""
        with self._lock:
            return [
                {
                    "project": one.project,
                    "reason": one.reason,
                    "tasks": one.total,
                    "done": one.done,
                    "failed": one.failed,
                    "posted": one.posted,
                    "seconds": round((one.ended or time.time()) - one.began, 1),
                }
                for one in reversed(self._batches)
            ]
