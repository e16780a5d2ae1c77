"""From the name of a scheduler to what runs tasks: this process, processes here, a cluster."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import ClusterError
from sam_plugins.model.cluster.choice import LOCAL, NONE, require_dask, usable_cores
from sam_plugins.model.cluster.dask_runner import DaskRunner
from sam_plugins.model.cluster.outcome import Runner, SerialRunner
from sam_plugins.model.cluster.shared import SharedFiles, marked
from sam_plugins.model.cluster.worker import check

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny

_CONNECT_SECONDS = 15
_WORKER_SECONDS = 60
_WORKER_BYTES = 2 * 2**30
_CHECKED_FILES = 3
_GRACE_SECONDS = 1.0
_PACKAGE = "sam_plugins"


@contextlib.contextmanager
def open_runner(
    scheduler: str,
    count: int,
    *,
    files: Iterable[Path] = (),
    folder: Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Runner]:
    """Open what runs tasks, for as long as the block lasts.

    Parameters
    ----------
    scheduler : str
        From :func:`~sam_plugins.model.cluster.choice.choose_scheduler`.
    count : int
        Tasks; no more processes than that are started.
    files : iterable of Path
        What tasks read; workers must see the first of them as they are here.
    folder : Path, optional
        Where tasks write; workers must see it.
    workers : int, optional
        Processes of a local cluster; by default one a core, as far as there are 2 GiB for each.
    threads : int, optional
        Of PyTorch in each of these processes; by default the cores are shared out.
    tell : callable
        Told where the cluster and its dashboard are.

    Yields
    ------
    Runner

    Raises
    ------
    MissingExtraError
        If the ``scale`` extra is not installed.
    ClusterError
        If the scheduler cannot be reached, has no workers, or these see other files or run other
        versions.
    """
    if scheduler == NONE:
        with contextlib.closing(SerialRunner()) as runner:
            yield runner
        return
    require_dask()
    some = list(files)
    shared = SharedFiles.of(some[:: max(1, len(some) // _CHECKED_FILES)][:_CHECKED_FILES])
    with contextlib.ExitStack() as opened:
        shared = opened.enter_context(marked(shared, folder))
        if scheduler == LOCAL:
            client = opened.enter_context(_local(count, workers, threads))
        else:
            client = opened.enter_context(_connected(scheduler))
        _require_software(client, shared)
        _require_shared(client, shared)
        number = len(client.scheduler_info(n_workers=-1)["workers"])
        tell(
            f"{number} worker{'s' if number > 1 else ''} at {client.scheduler.address}, dashboard "
            f"{client.dashboard_link}"
        )
        yield DaskRunner(client, shared)


@contextlib.contextmanager
def _local(count: int, workers: int | None, threads: int | None) -> Iterator[Client]:
    """Start processes on this machine, and end them."""
    import dask
    from distributed import Client, LocalCluster

    cores = usable_cores()
    number = max(1, min(count, workers or min(cores, _fitting())))
    share = str(threads or max(1, cores // number))
    settings = {
        # Results are small; a worker that grows is paused and then started again, never swapped.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        **{
            f"distributed.nanny.pre-spawn-environ.{name}": share
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        },
    }
    with dask.config.set(settings), _quietly(), environment_kept():
        with _deaf_to_interrupts():
            cluster: LocalCluster = LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        try:
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            # A worker in the midst of a task hears of the end when it is done; files appear whole.
            nannies = list(cluster.workers.values())
            impatience = threading.Timer(_GRACE_SECONDS, _kill_workers, [nannies])
            impatience.start()
            try:
                cluster.close(timeout=10)
            except TimeoutError:  # must not take the place of an interrupt
                _kill_workers(nannies)
            finally:
                impatience.cancel()


def _kill_workers(nannies: Sequence[Nanny]) -> None:
    """End the processes that nannies of this process look after."""
    theirs = {nanny.pid for nanny in nannies}
    for process in multiprocessing.active_children():
        if process.pid in theirs:
            process.kill()


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """Put this process's variables right in the end: nannies leave those of their workers there."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let threads, and their processes, that are started here not hear of Ctrl-C.

    A terminal sends it to them too, and they would end with tracebacks; this program ends them. One
    that comes meanwhile is heard after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Else it would start with the first process, and let that thread hear again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fitting() -> int:
    """Return for how many processes there is memory."""
    from distributed.system import MEMORY_LIMIT

    return max(1, int(MEMORY_LIMIT // _WORKER_BYTES))


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Connect to a scheduler that runs."""
    from distributed import Client

    how: dict[str, Any] = (
        {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    )
    try:
        client = Client(**how, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"cannot reach a Dask scheduler at {address} ({error}); start it with `dask scheduler` "
            "and check the address and the firewall"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {address} has no worker; start some with `dask worker {address}`"
            ) from error
        yield client


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the libraries say of ports and of closing to themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="distributed")
        yield


def _require_software(client: Client, shared: SharedFiles) -> None:
    """Refuse a scheduler or workers with other versions; asks without any code of ours there."""
    versions = client.get_versions(packages=[_PACKAGE])
    asked = {"the scheduler": versions["scheduler"]}
    asked |= {f"the worker {name}": found for name, found in versions["workers"].items()}
    for who, found in asked.items():
        there = (found or {}).get("packages", {})
        if not there.get(_PACKAGE):
            raise ClusterError(
                f"{who} has no sam-plugins: install sam-plugins {shared.version} there"
            )
        python = ".".join(str(there.get("python", "")).split(".")[:2])
        shared.require_software(str(there[_PACKAGE]), python, who)


def _require_shared(client: Client, shared: SharedFiles) -> None:
    """Refuse workers that see other files."""
    for problem in client.run(check, shared).values():
        if problem:
            raise ClusterError(problem)
