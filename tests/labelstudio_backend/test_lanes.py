"""One job at a time, the urgent ones first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from sam_plugins.labelstudio_backend.click_threads import ClickThreads
from sam_plugins.labelstudio_backend.lanes import Lane, Priority


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.close()


def test_urgent_jobs_go_first_and_pass_long_ones(lane: Lane) -> None:
    order: list[str] = []
    go, started = threading.Event(), threading.Event()

    def long() -> None:
        started.set()
        go.wait(5)
        order.append("batch begins")
        lane.let_pass(Priority.BATCH)
        order.append("batch ends")

    first = lane.submit(long, Priority.BATCH)
    started.wait(5)
    jobs = [
        lane.submit(lambda: order.append("prewarm"), Priority.PREWARM),
        lane.submit(lambda: order.append("click"), Priority.INTERACTIVE),
    ]
    go.set()
    for job in (first, *jobs):
        job.future.result(timeout=5)
    assert order == ["batch begins", "click", "batch ends", "prewarm"]


def test_a_job_that_somebody_waits_for_hurries(lane: Lane) -> None:
    order: list[int] = []
    go, started = threading.Event(), threading.Event()
    lane.submit(lambda: (started.set(), go.wait(5)), Priority.INTERACTIVE)
    started.wait(5)
    slow = lane.submit(lambda: order.append(1), Priority.PREWARM)
    other = lane.submit(lambda: order.append(2), Priority.BATCH)
    lane.hurry(slow, Priority.INTERACTIVE)
    go.set()
    slow.future.result(timeout=5)
    other.future.result(timeout=5)
    assert order == [1, 2]


def test_an_error_goes_to_who_waits_and_the_lane_goes_on(lane: Lane) -> None:
    with pytest.raises(ZeroDivisionError):
        lane.run(lambda: 1 // 0, Priority.INTERACTIVE)
    assert lane.run(lambda: lane.run(lambda: 3, Priority.BATCH), Priority.INTERACTIVE) == 3
    lane.close()
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(lambda: None, Priority.BATCH)


def test_clicks_share_the_cores_and_others_keep_theirs() -> None:
    usual = torch.get_num_threads()
    clicks = ClickThreads(cores=6)
    seen: list[int] = []
    try:
        assert clicks.count == 4
        assert clicks.run(torch.get_num_threads) == 2
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [usual] == [torch.get_num_threads()]
    finally:
        clicks.close()


def test_two_clicks_at_once_hold_up_a_batch_and_not_each_other() -> None:
    lane = Lane(ClickThreads(cores=2))
    order: list[str] = []
    go, clicking, passing = threading.Event(), threading.Event(), threading.Event()
    both = threading.Barrier(2, action=clicking.set)  # two at once, or it breaks

    def click() -> None:
        both.wait(5)
        go.wait(5)
        order.append("click")

    def batch() -> None:
        passing.set()
        lane.let_pass(Priority.BATCH)
        order.append("batch")

    people = [threading.Thread(target=lane.answer, args=(click,)) for _ in range(2)]
    for one in people:
        one.start()
    assert clicking.wait(5)
    job = lane.submit(batch, Priority.BATCH)
    assert passing.wait(5)
    go.set()
    job.future.result(timeout=5)
    for one in people:
        one.join(5)
    lane.close()
    assert order == ["click", "click", "batch"]


def test_a_long_job_ends_with_the_lane_where_it_lets_others_pass() -> None:
    lane = Lane()
    started, go = threading.Event(), threading.Event()

    def long() -> None:
        started.set()
        go.wait(10)
        lane.let_pass(Priority.BATCH)

    job = lane.submit(long, Priority.BATCH)
    assert started.wait(10)
    closing = threading.Thread(target=lane.close)
    closing.start()
    while not lane._is_closed:
        time.sleep(0.01)
    go.set()
    with pytest.raises(RuntimeError, match="the model's lane is closed"):
        job.future.result(timeout=10)
    closing.join()
