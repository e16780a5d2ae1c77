"""Tasks on a Dask cluster: a bounded number under way, lost ones tried again, each yielded once."""

from __future__ import annotations

import contextlib
import functools
import queue
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from sam_plugins.errors import ClusterError, TaskLostError
from sam_plugins.model.cluster.outcome import Function, Item, Kept, Outcome, Value
from sam_plugins.model.cluster.shared import SharedFiles
from sam_plugins.model.cluster.worker import perform

if TYPE_CHECKING:
    from distributed import Client, Future

_PER_THREAD = 4
_LEAST_WINDOW = 8
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0


class DaskRunner:
    """Runs tasks on the workers of a Dask cluster.

    **Bounded.** Four tasks for each thread of the workers are handed in, and a further one when one
    is done, so that neither the scheduler nor a worker holds more, however many items there are.
    **Once.** A task whose worker was lost runs again elsewhere (Dask allows three losses). So it
    may run twice; its outcome is yielded once, and functions must leave the same behind when they
    run twice: files that appear whole, under the same names.

    Parameters
    ----------
    client : distributed.Client
        Connected; stays the caller's.
    shared : SharedFiles
        What workers must see.
    patience : float
        Seconds without any worker after which waiting ends.
    """

    is_distributed = True

    def __init__(
        self, client: Client, shared: SharedFiles, *, patience: float = _PATIENCE_SECONDS
    ) -> None:
        self._client = client
        self._shared = shared
        self._patience = patience
        self._is_closed = False

    def close(self) -> None:
        """Cancel what is waited for, within a second; who waits gets a ClusterError.

        To be called before the client is closed: a task of a client that is gone cannot be
        cancelled, and whoever tries waits for ever.
        """
        self._is_closed = True

    def call(self, function: Callable[[Kept], Value]) -> Value:
        """Run one function on a worker, and return or raise what it does."""
        (outcome,) = self.run(functools.partial(_without_item, function), [None])
        return outcome.result()

    def run(
        self, function: Function[Item, Value], items: Iterable[Item], *, ordered: bool = False
    ) -> Iterator[Outcome[Item, Value]]:
        """Yield the outcome of each item once.

        Parameters
        ----------
        function : callable
            Takes a :class:`~sam_plugins.model.cluster.outcome.Kept` and an item. Pickled.
        items : iterable
            Read as they are handed in. Pickled.
        ordered : bool
            In the order of the items; a slow one then holds up the rest after a while, because
            those that wait for it count as under way.

        Raises
        ------
        ClusterError
            If the scheduler is lost, or no worker is left.
        """
        source = enumerate(items)
        flying: dict[Future, tuple[int, Item]] = {}
        waiting: dict[int, Outcome[Item, Value]] = {}
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        following = 0
        name = f"sam-plugins-{secrets.token_hex(4)}"
        try:
            while True:
                room = self.window() - len(flying) - len(waiting)
                for index, item in _some(source, room):
                    future = self._client.submit(
                        perform, self._shared, function, index, item,
                        key=f"{name}-{index}", pure=False,
                    )  # fmt: skip
                    flying[future] = index, item
                    future.add_done_callback(done.put)
                if not flying:
                    return
                future = self._next(done)
                index, item = flying.pop(future)
                outcome: Outcome[Item, Value] = self._outcome(future, index, item)
                future.release()
                if not ordered:
                    yield outcome
                    continue
                waiting[index] = outcome
                while following in waiting:
                    yield waiting.pop(following)
                    following += 1
        finally:
            if flying:  # interrupted: what waits is not begun
                with contextlib.suppress(Exception):
                    self._client.cancel(list(flying), force=True)

    def window(self) -> int:
        """Return how many tasks may be under way; it follows the workers that come and go."""
        threads = sum(self._threads())
        return max(_LEAST_WINDOW, _PER_THREAD * threads)

    @property
    def width(self) -> int:
        """How many tasks run at once now; workers come and go."""
        return max(1, sum(self._threads()))

    def _threads(self) -> list[int]:
        """Return the threads of each worker."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return [worker["nthreads"] for worker in workers.values()]

    def _next(self, done: queue.SimpleQueue[Future]) -> Future:
        """Wait for a task; give up where nobody is there to do it."""
        last_seen = time.monotonic()
        while True:
            try:
                return done.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                pass
            if self._is_closed:
                raise ClusterError("what waited for the cluster was cancelled")
            if self._client.status != "running":
                raise ClusterError(
                    "the connection to the scheduler is lost; what is written is complete: start "
                    "the scheduler and run the command again"
                )
            if self._threads():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > self._patience:
                raise ClusterError(
                    f"no worker has been there for {self._patience:.0f} seconds; start workers "
                    "and run the command again"
                )

    def _outcome(self, future: Future, index: int, item: Item) -> Outcome[Item, Value]:
        """Return what became of a task, with its item."""
        from distributed import KilledWorker

        try:
            outcome: Outcome[None, Value] = future.result()
        except KilledWorker as error:
            lost: ClusterError = TaskLostError(
                "the workers that tried it were lost one after the other; if memory ran out, give "
                "each worker more (fewer workers, dask worker --memory-limit)"
            )
            lost.__cause__ = error
            return Outcome(index, item, error=lost)
        except Exception as error:
            if future.status == "error":  # the task could not even be unpacked there
                lost = ClusterError(f"a worker could not run the task: {error}")
                lost.__cause__ = error
                return Outcome(index, item, error=lost)
            raise ClusterError(
                f"a task was lost with the scheduler ({type(error).__name__}); what is written is "
                "complete: run the command again"
            ) from error
        return Outcome(index, item, outcome.value, outcome.error)


def _without_item(function: Callable[[Kept], Value], kept: Kept, item: None) -> Value:
    """Run a function that has no item."""
    del item
    return function(kept)


def _some(source: Iterator[tuple[int, Item]], count: int) -> Iterator[tuple[int, Item]]:
    """Yield at most so many items."""
    for _ in range(count):
        try:
            yield next(source)
        except StopIteration:
            return
