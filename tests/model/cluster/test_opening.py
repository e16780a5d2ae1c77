"""Processes of this machine end with what started them, whatever they are at."""

from __future__ import annotations

import multiprocessing
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sam_plugins.model.cluster import opening


def test_workers_in_the_midst_of_a_task_are_ended_and_no_others() -> None:
    context = multiprocessing.get_context("spawn")
    name = "Dask Worker process (from Nanny)"  # so is one of another cluster of this process
    worker, other = (context.Process(target=time.sleep, args=(600,), name=name) for _ in range(2))
    for process in (worker, other):
        process.start()
    try:
        nannies: Any = [SimpleNamespace(pid=worker.pid), SimpleNamespace(pid=None)]
        opening._kill_workers(nannies)
        worker.join(timeout=60)
        assert not worker.is_alive()
        assert other.is_alive()
    finally:
        for process in (worker, other):
            process.kill()
            process.join()


def test_an_end_that_takes_too_long_does_not_hide_why_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed")
    close = distributed.LocalCluster.close

    def too_slow(cluster: Any, timeout: float | None = None) -> None:
        close(cluster, timeout=timeout)
        raise TimeoutError

    monkeypatch.setattr(distributed.LocalCluster, "close", too_slow)
    with pytest.raises(KeyboardInterrupt), opening.open_runner("local", 1, workers=1):
        raise KeyboardInterrupt
