"""One lane to the model: one job at a time, what people wait for first.

A network uses all cores for one picture; two at once take longer each and mix nothing but memory.
A long job lets urgent ones pass at points that it chooses (:meth:`Lane.let_pass`). Clicks are so
short that they share the cores otherwise (:meth:`Lane.answer`).
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Any, Generic, TypeVar

from sam_plugins.labelstudio_backend.click_threads import ClickThreads

T = TypeVar("T")

_CLOSED = "the model's lane is closed: the backend is shutting down"
_LONGEST_PASS = 1.0
"""Seconds for which clicks that never end hold up a long job, each time that it lets them pass."""


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    OPEN = 1
    BATCH = 2
    PREWARM = 3


class Job(Generic[T]):
    """Work that waits for the lane, runs in it, or is done."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._work = work
        self._is_taken = False

    def take(self) -> bool:
        """Return whether it is still to be done, and take it; the lane's lock is held."""
        if self._is_taken:
            return False
        self._is_taken = True
        return self.future.set_running_or_notify_cancel()

    def run(self) -> None:
        """Do the work; its result or error goes to who waits."""
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001  # it belongs to who waits
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Lane:
    """A thread that does jobs in the order of their priority, then of their coming.

    Parameters
    ----------
    clicks : ClickThreads, optional
        For :meth:`answer`; without them, as on a GPU, a click is a job like any other.
    """

    def __init__(self, clicks: ClickThreads | None = None) -> None:
        self._clicks = clicks
        self._waiting: list[tuple[int, int, Job[Any]]] = []
        self._count = itertools.count()
        self._ready = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._drive, name="model-lane", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], priority: Priority) -> Job[T]:
        """Queue work.

        Raises
        ------
        RuntimeError
            If the lane was closed.
        """
        job = Job(work)
        with self._ready:
            if self._is_closed:
                raise RuntimeError(_CLOSED)
            heapq.heappush(self._waiting, (int(priority), next(self._count), job))
            self._ready.notify()
        return job

    def run(self, work: Callable[[], T], priority: Priority) -> T:
        """Queue work and wait for it; within the lane, do it at once."""
        if threading.current_thread() is self._thread:
            return work()
        return self.submit(work, priority).future.result()

    def answer(self, work: Callable[[], T]) -> T:
        """Do short work for somebody who waits, beside what is at work."""
        if self._clicks is None:
            return self.run(work, Priority.INTERACTIVE)
        return self._clicks.run(work)

    def hurry(self, job: Job[Any], priority: Priority) -> None:
        """Let a job that waits go with a higher priority: somebody waits for it now."""
        with self._ready:
            heapq.heappush(self._waiting, (int(priority), next(self._count), job))
            self._ready.notify()

    def let_pass(self, priority: Priority) -> None:
        """Do what is more urgent than a job of this priority, which calls this from the lane.

        Raises
        ------
        RuntimeError
            If the lane was closed, which ends the job.
        """
        if threading.current_thread() is not self._thread:
            return
        if self._is_closed:
            raise RuntimeError(_CLOSED)
        if self._clicks is not None:
            self._clicks.wait_until_idle(_LONGEST_PASS)
        while (job := self._next(below=int(priority))) is not None:
            job.run()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        with self._ready:
            return len(self._waiting) + (0 if self._clicks is None else self._clicks.waiting)

    def close(self) -> None:
        """Cancel what waits and end the thread."""
        with self._ready:
            self._is_closed = True
            for _, _, job in self._waiting:
                job.future.cancel()
            self._waiting.clear()
            self._ready.notify()
        self._thread.join(timeout=5)
        if self._clicks is not None:
            self._clicks.close()

    def _next(self, below: int | None = None) -> Job[Any] | None:
        """Return the next job, more urgent than ``below`` where that is given, or None."""
        with self._ready:
            while self._waiting and (below is None or self._waiting[0][0] < below):
                _, _, job = heapq.heappop(self._waiting)
                if job.take():
                    return job
            return None

    def _drive(self) -> None:
        """Do one job after the other."""
        while True:
            with self._ready:
                while not self._waiting and not self._is_closed:
                    self._ready.wait()
                if self._is_closed:
                    return
            job = self._next()
            if job is not None:
                job.run()
