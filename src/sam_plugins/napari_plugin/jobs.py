"""Slow work off the GUI thread: jobs that report, stop when told to, and end with their owner.

A job is a function that runs in a thread of its own and gets a ``progress`` from us. Everything
that it has to say comes back on the GUI thread, through one queued signal, so no callback needs a
lock::

    def count(names, *, progress):
        for done, name in enumerate(names):
            progress(done, len(names))  # raises JobCancelled when the job was cancelled
            progress.hand_over(look_at(name))  # what is done stays done
        return len(names)

    job = start_job(count, names, title="Looking", owner=widget, on_partial=show, on_result=tell)
    job.cancel()
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import functools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from qtpy.QtCore import QCoreApplication, QObject, Qt, QThread, Signal, Slot

_SECONDS_BETWEEN_REPORTS = 0.05
_SECONDS_TO_END = 10.0

_log = logging.getLogger(__name__)


class JobCancelled(KeyboardInterrupt):
    """Raised inside a job that was cancelled; a job lets it through, or returns what it has.

    It is to a job what Ctrl-C is to a command: training that is interrupted keeps what was best so
    far, and no ``except Exception`` on the way takes it for an error.
    """


class JobState(enum.Enum):
    """What became of a job."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ProgressDisplay(Protocol):
    """Where people see a job, and cancel it; used on the GUI thread alone."""

    def start(self, title: str, cancel: Callable[[], None]) -> None:
        """Show a job that begins."""

    def update(self, done: int, total: int, seconds_left: float | None) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """Show it no longer."""


class JobProgress:
    """What a job says of itself, from its own thread.

    It can be given to everything that takes a callable ``(done, total)``.
    """

    def __init__(self, say: Callable[[str, object], None]) -> None:
        self._say = say
        self._cancelled = threading.Event()
        self._last = 0.0

    @property
    def is_cancelled(self) -> bool:
        """Whether the job should end."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the job to end; from any thread."""
        self._cancelled.set()

    def check(self) -> None:
        """End the job here if it was cancelled.

        Raises
        ------
        JobCancelled
            If it was.
        """
        if self._cancelled.is_set():
            raise JobCancelled

    def __call__(self, done: int, total: int) -> None:
        """Say how far the job is, as often as it likes, and end it here if it was cancelled.

        Parameters
        ----------
        done, total : int
            Steps; a ``total`` of 0 means that nobody knows.

        Raises
        ------
        JobCancelled
            If it was cancelled.
        """
        self.check()
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS or done == total:
            self._last = now
            self._say("progress", (done, total))

    def hand_over(self, value: object) -> None:
        """Hand over a part of the result, which stays whatever becomes of the rest."""
        self._say("partial", value)


@dataclass(frozen=True)
class JobCallbacks:
    """Who hears of a job, on the GUI thread; see :func:`start_job`."""

    on_result: Callable[[Any], None] | None = None
    on_error: Callable[[Exception], None] | None = None
    on_progress: Callable[[int, int], None] | None = None
    on_partial: Callable[[Any], None] | None = None
    on_cancelled: Callable[[], None] | None = None
    on_finished: Callable[[], None] | None = None


class Job(QObject):
    """A function at work in a thread; see :func:`start_job`."""

    _woken = Signal()

    def __init__(
        self,
        work: Callable[[JobProgress], object],
        title: str,
        callbacks: JobCallbacks,
        display: ProgressDisplay | None,
    ) -> None:
        super().__init__()
        self.title = title
        self._callbacks: JobCallbacks | None = callbacks
        self._display = display
        self._state = JobState.RUNNING
        self._messages: deque[tuple[str, object]] = deque()
        self._progress = JobProgress(self._say)
        self._started = time.monotonic()
        self._is_listening = False
        self._steps = (0, 0)
        self._thread = threading.Thread(
            target=self._run, args=(work,), name=f"sam-plugins: {title}", daemon=True
        )
        self._woken.connect(self._listen, Qt.ConnectionType.QueuedConnection)

    @property
    def state(self) -> JobState:
        """What became of it, as far as the GUI thread knows."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether something may still come from it.

        A job that was cancelled runs no longer, even where its thread needs a moment to notice.
        """
        return self._state is JobState.RUNNING and not self._progress.is_cancelled

    @property
    def steps(self) -> tuple[int, int]:
        """Steps done and steps in all; zeros where nobody knows."""
        return self._steps

    @property
    def seconds_so_far(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at the pace so far, None where nobody knows."""
        done, total = self._steps
        if not 0 < done <= total:
            return None
        return self.seconds_so_far / done * (total - done)

    def cancel(self) -> None:
        """End it: at its next step its thread ends, what it handed over stays.

        Whoever listens hears at once that it was cancelled.
        """
        if not self.is_running:
            return
        self._progress.cancel()
        self._say("cancelled", None)

    def abandon(self) -> None:
        """End it and tell nobody, for owners that are no longer there."""
        self._callbacks = None
        self._progress.cancel()
        self._close_display()

    def stop(self) -> None:
        """Ask it to end, and wait for its last word: a result that it has by then counts."""
        self._progress.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until its thread has ended; return whether it has.

        For tests and for the end of the program: callbacks come when the event loop runs again.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _start(self) -> None:
        if self._display is not None:
            self._display.start(self.title, self.cancel)
        _ALIVE.add(self)
        self._thread.start()

    def _run(self, work: Callable[[JobProgress], object]) -> None:
        """Work, in the thread of the job."""
        try:
            with working_for(self._progress):
                result = work(self._progress)
        except JobCancelled:
            self._say("cancelled", None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told on the GUI thread
            self._say("error", error)
        else:
            self._say("result", result)
        finally:
            del work
            self._say("ended", None)

    def _say(self, kind: str, value: object) -> None:
        """Leave a message for the GUI thread; from any thread."""
        self._messages.append((kind, value))
        with contextlib.suppress(RuntimeError):  # Qt is gone already
            self._woken.emit()

    @Slot()  # type: ignore[untyped-decorator, unused-ignore]
    def _listen(self) -> None:
        """Take all messages, on the GUI thread."""
        if self._is_listening:  # napari's progress bar lets events through while it is painted
            return
        self._is_listening = True
        try:
            while self._messages:
                self._hear(*self._messages.popleft())
        finally:
            self._is_listening = False
            if self._messages:  # a callback raised
                self._woken.emit()

    def _hear(self, kind: str, value: Any) -> None:  # noqa: ANN401
        """Pass one message on."""
        if kind == "ended":
            _ALIVE.discard(self)
            if self._state is not JobState.RUNNING:
                return
            kind = "cancelled"  # abandoned, or its last word came after
        heard = self._callbacks
        if self._state is not JobState.RUNNING:
            return
        if kind == "progress":
            self._steps = value
            if self._display is not None and not self._progress.is_cancelled:
                self._display.update(value[0], value[1], self.seconds_left)
            if heard is not None and heard.on_progress is not None:
                heard.on_progress(*value)
        elif kind == "partial":
            if heard is not None and heard.on_partial is not None:
                heard.on_partial(value)
        else:
            self._end(kind, value, heard)

    def _end(self, kind: str, value: Any, heard: JobCallbacks | None) -> None:  # noqa: ANN401
        """Note how it ended, and tell."""
        self._state = {"result": JobState.DONE, "error": JobState.FAILED}.get(
            kind, JobState.CANCELLED
        )
        self._callbacks = None
        self._close_display()
        if heard is None:
            if kind == "error":
                _log.info("%s failed after it was left: %s", self.title, value)
            return
        try:
            if kind == "result" and heard.on_result is not None:
                heard.on_result(value)
            elif kind == "error":
                (heard.on_error or _show_error)(value)
            elif kind == "cancelled" and heard.on_cancelled is not None:
                heard.on_cancelled()
        finally:
            if heard.on_finished is not None:
                heard.on_finished()

    def _close_display(self) -> None:
        display, self._display = self._display, None
        if display is not None:
            display.close()


def start_job(
    function: Callable[..., object],
    *args: object,
    title: str,
    owner: QObject | None = None,
    on_result: Callable[[Any], None] | None = None,
    on_error: Callable[[Exception], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_partial: Callable[[Any], None] | None = None,
    on_cancelled: Callable[[], None] | None = None,
    on_finished: Callable[[], None] | None = None,
    display: ProgressDisplay | None = None,
    is_shown: bool = True,
    **keywords: object,
) -> Job:
    """Run a function in a thread and return at once.

    Parameters
    ----------
    function : callable
        Called with ``args``, ``keywords`` and ``progress``, a :class:`JobProgress`. It must touch
        no window, no layer and no viewer: what it makes goes through its result.
    title : str
        What people see that the program is doing.
    owner : QObject, optional
        The job ends with it, and nobody is called any more: a widget that closes.
    on_result : callable, optional
        Called with what the function returned, also where it returned what it had when it was
        cancelled before anybody was told so.
    on_error : callable, optional
        Called with the exception; by default it becomes a notification.
    on_progress : callable, optional
        Called with steps done and steps in all, some twenty times a second at most.
    on_partial : callable, optional
        Called with each value that was handed over, in order.
    on_cancelled, on_finished : callable, optional
        Called without arguments; ``on_finished`` after every end but that of the owner.
    display : ProgressDisplay, optional
        By default napari's activity dock, where there is a napari.
    is_shown : bool
        False for what is done in a blink: nothing is displayed.

    Returns
    -------
    Job

    Raises
    ------
    RuntimeError
        If it is called from another thread than the GUI's, or there is no Qt application.
    """
    application = QCoreApplication.instance()
    if application is None or QThread.currentThread() != application.thread():
        raise RuntimeError(
            "jobs are started from the thread of the window, with a Qt application running; "
            "in a script without a window call the function itself"
        )
    _end_with(application)
    if not is_shown:
        display = None
    elif display is None:
        display = _usual_display()
    callbacks = JobCallbacks(
        on_result, on_error, on_progress, on_partial, on_cancelled, on_finished
    )
    job = Job(
        lambda progress: function(*args, progress=progress, **keywords), title, callbacks, display
    )
    if owner is not None:
        owner.destroyed.connect(job.abandon)
    job._start()
    return job


_OWN = threading.local()
"""The progress of the job that a thread works for."""


@contextlib.contextmanager
def working_for(progress: JobProgress) -> Iterator[None]:
    """Let what this thread does be cancelled with a job."""
    _OWN.progress = progress
    cancel_inside_networks()
    try:
        yield
    finally:
        _OWN.progress = None


def _check_own_job(*_: object) -> None:
    """End the job of this thread here, if it has one that was cancelled."""
    progress: JobProgress | None = getattr(_OWN, "progress", None)
    if progress is not None:
        progress.check()


@functools.cache
def _hook_networks() -> object:
    """Look before every part of every network whether the job was cancelled."""
    import torch  # noqa: F401  waits for another thread that imports it; what follows does not
    from torch.nn.modules.module import register_module_forward_pre_hook

    return register_module_forward_pre_hook(_check_own_job)


def cancel_inside_networks() -> None:
    """Let a job be cancelled within a network, once PyTorch is there.

    A large encoder computes for many seconds without a word: with this it ends at its next layer.
    """
    if "torch" in sys.modules:
        _hook_networks()


_ALIVE: set[Job] = set()
"""Jobs whose thread has not ended yet: nobody else may keep them."""


def end_all_jobs(seconds: float = _SECONDS_TO_END) -> bool:
    """End every job and wait for its thread; return whether all ended in time."""
    for job in list(_ALIVE):
        job.abandon()
    until = time.monotonic() + seconds
    ended = [job.wait(max(0.0, until - time.monotonic())) for job in list(_ALIVE)]
    if all(ended):
        _ALIVE.clear()
    return all(ended)


def _end_with(application: QCoreApplication) -> None:
    """End all jobs when the program ends: a thread inside PyTorch would crash it."""
    if not application.property("sam_plugins_ends_jobs"):
        application.setProperty("sam_plugins_ends_jobs", True)
        application.aboutToQuit.connect(end_all_jobs)


def _usual_display() -> ProgressDisplay | None:
    """Return napari's activity dock, where napari is at work."""
    if "napari" not in sys.modules:
        return None
    from sam_plugins.napari_plugin.activity import ActivityDisplay

    return ActivityDisplay()


def _show_error(error: Exception) -> None:
    """Tell people of an error that nobody else takes."""
    if "napari" in sys.modules:
        from sam_plugins.napari_plugin.notifications import show_problem

        show_problem(error)
    else:
        _log.error("%s", error, exc_info=error)


atexit.register(end_all_jobs)
