"""Threads that answer clicks, each with its share of the cores.

Answering one click hardly gains from more cores: on two of them 28 ms instead of 35. Two clicks at
once, a core each, are therefore ready sooner than one after the other.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

_MOST = 4
"""Threads; more cores than that are shared among them."""


class ClickThreads:
    """A few threads for short work with the network; what comes first is done first.

    Parameters
    ----------
    cores : int, optional
        To share among the threads; as many as PyTorch uses by default.
    """

    def __init__(self, cores: int | None = None) -> None:
        usual = torch.get_num_threads()
        cores = cores or usual
        self.count = min(cores, _MOST)
        self._idle = threading.Condition()
        self._unfinished = 0
        self._pool = ThreadPoolExecutor(
            self.count, "click", _use_cores, (math.ceil(cores / self.count),)
        )
        # Each thread's number is also what PyTorch gives to threads that start later: let all
        # start now, and put it right.
        everybody = threading.Barrier(self.count + 1)
        for _ in range(self.count):
            self._pool.submit(everybody.wait)
        everybody.wait()
        torch.set_num_threads(usual)

    def run(self, work: Callable[[], T]) -> T:
        """Let a thread do it, and wait for it.

        Raises
        ------
        RuntimeError
            If they were closed.
        """
        with self._idle:
            self._unfinished += 1
        try:
            return self._pool.submit(work).result()
        finally:
            with self._idle:
                self._unfinished -= 1
                self._idle.notify_all()

    @property
    def waiting(self) -> int:
        """How much work waits."""
        return max(0, self._unfinished - self.count)

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until nobody asks, for so many seconds at most; return whether nobody does."""
        with self._idle:
            return self._idle.wait_for(lambda: self._unfinished == 0, timeout)

    def close(self) -> None:
        """End the threads when they have done what they were given."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _use_cores(count: int) -> None:
    """Let PyTorch use so many cores in this thread."""
    torch.get_num_threads()  # the first use in a thread sets the usual number
    torch.set_num_threads(count)
