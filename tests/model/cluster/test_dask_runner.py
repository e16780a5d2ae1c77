"""A real cluster: the same outcomes as one process, whatever happens to its workers."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.model.cluster.functions import (
    doubled,
    endless,
    kills_its_worker,
    process,
    remembered,
    slow_square,
    stubborn,
    thirteen_fails,
    torch_threads,
)

from sam_plugins.errors import ClusterError, UnreadableImageError
from sam_plugins.model.cluster import opening
from sam_plugins.model.cluster.opening import open_runner
from sam_plugins.model.cluster.outcome import Runner
from sam_plugins.model.cluster.shared import SharedFiles


@pytest.fixture
def runner(scheduler_address: str) -> Iterator[Runner]:
    with open_runner(scheduler_address, 100) as opened:
        yield opened


def test_every_outcome_comes_once(runner: Runner) -> None:
    outcomes = list(runner.run(doubled, range(50)))
    assert sorted((one.index, one.item, one.value) for one in outcomes) == [
        (index, index, 2 * index) for index in range(50)
    ]


def test_outcomes_in_order(runner: Runner) -> None:
    assert [one.item for one in runner.run(doubled, range(40), ordered=True)] == list(range(40))


def test_few_items_are_read_ahead(runner: Runner) -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    outcomes = runner.run(doubled, items())
    for _ in range(5):
        next(outcomes)
    outcomes.close()
    assert len(read) <= 5 + 8


def test_work_is_outside_of_this_process_on_one_thread(runner: Runner) -> None:
    assert runner.call(process) != os.getpid()
    assert runner.call(torch_threads) == 1


def test_an_error_comes_back_as_what_it_was(runner: Runner) -> None:
    outcomes = {one.item: one for one in runner.run(thirteen_fails, range(12, 15))}
    assert outcomes[14].value == 14
    with pytest.raises(UnreadableImageError, match="cannot read 13") as raised:
        outcomes[13].result()
    assert "thirteen_fails" in raised.value.__notes__[0]
    (outcome,) = runner.run(stubborn, [0])
    assert str(outcome.error) == "StubbornError: this and that"


def test_what_is_costly_is_made_once_in_each_worker(runner: Runner, tmp_path: Path) -> None:
    processes = {one.value for one in runner.run(remembered, [str(tmp_path)] * 30)}
    assert len(processes) <= 2
    assert len(list(tmp_path.iterdir())) == len(processes)


def test_a_killed_worker_costs_nothing(runner: Runner, tmp_path: Path) -> None:
    victim = runner.call(process)
    outcomes = []
    for outcome in runner.run(slow_square, [(str(tmp_path), number) for number in range(40)]):
        outcomes.append(outcome)
        if len(outcomes) == 5:
            os.kill(victim, signal.SIGKILL)
    assert sorted(one.index for one in outcomes) == list(range(40))
    assert all(one.result() == one.index**2 for one in outcomes)
    written = {path.name: path.read_text() for path in tmp_path.glob("*.txt")}
    assert written == {f"{number}.txt": str(number**2) for number in range(40)}


@pytest.mark.slow
def test_a_task_that_kills_every_worker_fails_alone(runner: Runner) -> None:
    outcomes = {one.item: one for one in runner.run(kills_its_worker, range(3))}
    assert outcomes[0].result() == 0
    assert outcomes[2].result() == 2
    with pytest.raises(ClusterError, match="lost one after the other; if memory ran out"):
        outcomes[1].result()


def test_workers_that_see_other_files_are_refused(
    scheduler_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "a.tif"
    picture.write_bytes(b"pixels")
    seen_here = SharedFiles.of([picture])
    picture.write_bytes(b"others")
    monkeypatch.setattr(opening.SharedFiles, "of", lambda files: seen_here)
    with (
        pytest.raises(ClusterError, match=r"sees another file as .*a\.tif; mount the same folder"),
        open_runner(scheduler_address, 1, files=[picture]),
    ):
        pass


def test_a_worker_that_joins_late_is_checked_too(runner: Runner) -> None:
    runner._shared = replace(runner._shared, token="late", version="0.0")  # type: ignore[attr-defined]
    (outcome,) = runner.run(doubled, [1])
    with pytest.raises(ClusterError, match=r"runs sam-plugins .*, this program 0\.0"):
        outcome.result()


def test_another_version_is_refused_before_any_task(
    scheduler_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(SharedFiles.of(), version="0.0")
    monkeypatch.setattr(opening.SharedFiles, "of", lambda files: older)
    with (
        pytest.raises(ClusterError, match=r"the scheduler runs sam-plugins .*install the same"),
        open_runner(scheduler_address, 1),
    ):
        pass


def test_who_waits_is_let_go(runner: Runner) -> None:
    found: list[BaseException] = []

    def wait() -> None:
        try:
            list(runner.run(endless, range(20)))
        except ClusterError as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(1)
    runner.close()
    waiting.join(timeout=20)
    assert [str(error) for error in found] == ["what waited for the cluster was cancelled"]


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_CONNECT_SECONDS", 0.3)
    with (
        pytest.raises(ClusterError, match=r"cannot reach a Dask scheduler at tcp://127\.0\.0\.1:9"),
        open_runner("tcp://127.0.0.1:9", 1),
    ):
        pass


def test_the_address_and_the_dashboard_are_told(scheduler_address: str) -> None:
    told: list[str] = []
    with open_runner(scheduler_address, 1, tell=told.append):
        pass
    # One where the other was just killed and is not yet back.
    assert re.match(rf"\d workers? at {scheduler_address}, dashboard http", told[0])


@pytest.mark.slow
def test_a_local_cluster_takes_what_cores_there_are() -> None:
    told: list[str] = []
    before = dict(os.environ)
    with open_runner("local", 2, workers=2, tell=told.append) as runner:
        assert [one.value for one in runner.run(doubled, [1, 2], ordered=True)] == [2, 4]
    assert told[0].startswith("2 workers at tcp://127.0.0.1:")
    assert "dashboard http://127.0.0.1:" in told[0]
    assert dict(os.environ) == before  # training that follows must not have the workers' one thread
