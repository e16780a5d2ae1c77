"""How many tasks a second Dask's scheduler carries, and what a task costs it.

``python benchmarks/scheduler_limit.py`` starts a scheduler and workers as processes of their own
and sends them tasks that do nothing, as our commands would, with a fixed number under way. It
reports processor time per task in the scheduler, in the program that hands them out and in the
workers, beside the rate that was reached here. Other programs on the machine change the former far
less than the latter. A scheduler is one thread: one second over its time per task is what it
carries, however many workers there are.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from sam_plugins.model.cluster.outcome import Kept
from sam_plugins.model.cluster.shared import SharedFiles
from sam_plugins.model.cluster.worker import perform

_MIB = 2**20


@dataclass(frozen=True)
class Use:
    """Processor seconds of each side, and the scheduler's memory."""

    wall: float
    client: float
    scheduler: float
    workers: float
    scheduler_bytes: int


def nothing(kept: Kept, item: str) -> int:
    """Do what a task costs apart from its work."""
    del kept
    return len(item)


def main() -> None:
    """Print the table."""
    options = _options()
    print("| under way | tasks | tasks/s here | scheduler, ms | client, ms | worker, ms | "
          "scheduler's most, tasks/s | scheduler's memory, KiB a task under way |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    shared = SharedFiles.of()
    item = "/data/sa-1b/part-000123/sa_223750.jpg"
    for window in options.windows:
        with tempfile.TemporaryDirectory() as folder, _cluster(Path(folder), options) as client:
            _carried(client, shared, item, 500, 500)  # imports, connections
            before = _use(client)
            peak = _carried(client, shared, item, options.tasks, window)
            after = _use(client)
        count = options.tasks
        cost = {
            side: 1e3 * (getattr(after, side) - getattr(before, side)) / count
            for side in ("wall", "scheduler", "client", "workers")
        }
        memory = max(0, peak - before.scheduler_bytes) / min(window, count) / 1024
        print(
            f"| {window} | {count} | {1e3 / cost['wall']:.0f} | {cost['scheduler']:.2f} | "
            f"{cost['client']:.2f} | {cost['workers']:.2f} | {1e3 / cost['scheduler']:.0f} | "
            f"{memory:.1f} |",
            flush=True,
        )
    size = len(pickle.dumps((perform, shared, nothing, 1, item)))
    answer = len(pickle.dumps(1))
    print(f"\nA task is {size} bytes, its answer {answer} and what surrounds it.")


def _options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, metavar="N")
    parser.add_argument("--windows", type=int, nargs="+", default=[8, 100, 10_000], metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="of each worker")
    return parser.parse_args()


@contextlib.contextmanager
def _cluster(folder: Path, options: argparse.Namespace) -> Iterator[Client]:
    """Start a scheduler and workers that are processes of their own."""
    file = folder / "scheduler.json"
    python = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    command = [*python, "--scheduler-file", str(file), "--port", "0", "--no-dashboard"]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]
    try:
        for _ in range(options.workers):
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny"]
            worker += ["--scheduler-file", str(file), "--nthreads", str(options.threads)]
            worker += ["--no-dashboard", "--local-directory", str(folder)]
            processes.append(subprocess.Popen(worker, stderr=subprocess.DEVNULL))
        with Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(options.workers, timeout=60)
            yield client
    finally:
        for process in processes:  # nothing of theirs is to be kept
            process.kill()
            process.wait()


def _carried(client: Client, shared: SharedFiles, item: str, count: int, window: int) -> int:
    """Send tasks with so many under way; return the most memory that the scheduler had."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sent = peak = 0
    while sent < min(count, window):
        sent += 1
        _send(client, shared, item, sent, done)
    peak = client.run_on_scheduler(_resident)
    for finished in range(1, count + 1):
        done.get().release()
        if sent < count:
            sent += 1
            _send(client, shared, item, sent, done)
        if finished % 5000 == 0:
            peak = max(peak, client.run_on_scheduler(_resident))
    return peak


def _send(
    client: Client, shared: SharedFiles, item: str, number: int, done: queue.SimpleQueue[Any]
) -> None:
    """Send one task as our commands do."""
    future = client.submit(perform, shared, nothing, number, item, pure=False)
    future.add_done_callback(done.put)


def _use(client: Client) -> Use:
    """Return what has been used so far."""
    return Use(
        time.perf_counter(),
        time.process_time(),
        client.run_on_scheduler(time.process_time),
        sum(client.run(time.process_time).values()),
        client.run_on_scheduler(_resident),
    )


def _resident() -> int:
    """Return the memory of a process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
