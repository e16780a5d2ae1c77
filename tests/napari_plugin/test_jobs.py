"""Jobs with a real Qt event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from qtpy.QtCore import QCoreApplication, QObject, QThread

from sam_plugins.napari_plugin.jobs import (
    JobCancelled,
    JobProgress,
    JobState,
    end_all_jobs,
    start_job,
)

pytestmark = pytest.mark.gui


class Display:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.cancel: Callable[[], None] = lambda: None

    def start(self, title: str, cancel: Callable[[], None]) -> None:
        self.told.append(("start", title))
        self.cancel = cancel

    def update(self, done: int, total: int, seconds_left: float | None) -> None:
        self.told.append((done, total, seconds_left))

    def close(self) -> None:
        self.told.append("close")


def steps(count: int, seconds: float = 0.0, *, progress: JobProgress) -> list[int]:
    """Count slowly, handing over each number."""
    for number in range(count):
        progress(number, count)
        progress.hand_over(number)
        time.sleep(seconds)
    progress(count, count)
    return list(range(count))


def job_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("sam-plugins")]


def test_result_partials_and_progress_come_in_order_on_the_gui_thread(qtbot: Any) -> None:
    heard: list[Any] = []
    gui = QThread.currentThread()

    def note(kind: str) -> Callable[..., None]:
        def hear(*values: Any) -> None:
            assert QThread.currentThread() == gui
            heard.append((kind, *values))

        return hear

    display = Display()
    job = start_job(
        steps,
        3,
        title="Counting",
        display=display,
        on_result=note("result"),
        on_partial=note("partial"),
        on_progress=note("progress"),
        on_finished=note("finished"),
    )
    assert job.is_running
    qtbot.waitUntil(lambda: ("finished",) in heard, timeout=5000)
    assert [entry for entry in heard if entry[0] == "partial"] == [
        ("partial", 0),
        ("partial", 1),
        ("partial", 2),
    ]
    assert heard[-3:] == [("progress", 3, 3), ("result", [0, 1, 2]), ("finished",)]
    assert job.state is JobState.DONE
    assert job.seconds_left == 0
    assert display.told[0] == ("start", "Counting")
    assert display.told[-1] == "close"
    assert (3, 3, 0.0) in display.told
    qtbot.waitUntil(lambda: not job_threads(), timeout=5000)


def test_cancel_is_told_at_once_and_keeps_what_was_handed_over(qtbot: Any) -> None:
    kept: list[int] = []
    ends: list[str] = []
    display = Display()
    job = start_job(
        steps,
        1000,
        0.02,
        title="Counting",
        display=display,
        on_partial=kept.append,
        on_result=lambda _: ends.append("result"),
        on_cancelled=lambda: ends.append("cancelled"),
        on_finished=lambda: ends.append("finished"),
    )
    qtbot.waitUntil(lambda: len(kept) >= 3, timeout=5000)
    started = time.monotonic()
    display.cancel()
    assert not job.is_running
    qtbot.waitUntil(lambda: "finished" in ends, timeout=1000)
    assert job.wait(1.0)
    assert time.monotonic() - started < 1.0
    assert ends == ["cancelled", "finished"]
    assert 3 <= len(kept) < 1000
    assert job.state is JobState.CANCELLED
    assert display.told[-1] == "close"


def test_an_error_reaches_its_callback(qtbot: Any) -> None:
    def fail(*, progress: JobProgress) -> None:
        raise ValueError("no such picture")

    errors: list[Exception] = []
    job = start_job(fail, title="Failing", on_error=errors.append)
    qtbot.waitUntil(lambda: bool(errors), timeout=5000)
    assert isinstance(errors[0], ValueError)
    assert job.state is JobState.FAILED


def test_a_callback_that_raises_does_not_silence_the_next(qtbot: Any) -> None:
    ends: list[str] = []

    def raise_it(_: int) -> None:
        raise RuntimeError("in a callback")

    with qtbot.captureExceptions() as exceptions:
        start_job(
            steps,
            2,
            title="Counting",
            on_partial=raise_it,
            on_finished=lambda: ends.append("finished"),
        )
        qtbot.waitUntil(lambda: bool(ends), timeout=5000)
    assert [str(entry[1]) for entry in exceptions] == ["in a callback"] * 2


def test_the_owner_takes_its_jobs_along(qtbot: Any) -> None:
    heard: list[Any] = []
    owner = QObject()
    job = start_job(
        steps,
        1000,
        0.02,
        title="Counting",
        owner=owner,
        on_partial=heard.append,
        on_finished=lambda: heard.append("finished"),
    )
    qtbot.waitUntil(lambda: bool(heard), timeout=5000)
    owner.deleteLater()
    qtbot.waitUntil(lambda: not job.is_running, timeout=1000)
    so_far = len(heard)
    assert job.wait(1.0)
    qtbot.wait(50)
    assert len(heard) == so_far
    assert "finished" not in heard


def test_all_jobs_end_with_the_program(qtbot: Any) -> None:
    jobs = [start_job(steps, 1000, 0.01, title=f"Counting {n}") for n in range(3)]
    assert len(job_threads()) == 3
    assert end_all_jobs(5.0)
    assert not job_threads()
    assert not any(job.is_running for job in jobs)


def test_progress_raises_in_a_cancelled_job() -> None:
    progress = JobProgress(lambda kind, value: None)
    progress(1, 2)
    progress.cancel()
    with pytest.raises(JobCancelled):
        progress(2, 2)


def test_a_job_is_not_started_from_another_thread(qapp: QCoreApplication) -> None:
    errors: list[Exception] = []

    def start() -> None:
        try:
            start_job(steps, 1, title="Counting")
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "from the thread of the window" in str(errors[0])


def test_a_job_is_cancelled_within_a_network(qtbot: Any) -> None:
    import torch
    from torch import nn

    class Slow(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return value

    network = nn.Sequential(*(Slow() for _ in range(500)))
    begun = threading.Event()

    def encode(*, progress: JobProgress) -> None:
        begun.set()
        network(torch.zeros(1))

    job = start_job(encode, title="Encoding")
    assert begun.wait(5)
    job.cancel()
    assert job.wait(1.0)
    network[0](torch.zeros(1))  # nobody else is disturbed


def test_a_job_that_is_stopped_may_still_give_what_it_has(qtbot: Any) -> None:
    def learn(*, progress: JobProgress) -> str:
        try:
            while True:
                progress(1, 2)
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "the best so far"

    results: list[str] = []
    job = start_job(learn, title="Learning", on_result=results.append)
    job.stop()
    qtbot.waitUntil(lambda: bool(results), timeout=5000)
    assert results == ["the best so far"]
    assert job.state is JobState.DONE
