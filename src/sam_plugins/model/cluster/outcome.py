"""What became of one task, and what a process keeps between tasks."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

Item = TypeVar("Item")
Value = TypeVar("Value")

_KEPT = 4


class Kept:
    """Values that are costly to make, above all models, kept from task to task in one process.

    Safe with threads: a value is made once, and whoever asks meanwhile waits. What goes is closed,
    where it has a ``close``.

    Parameters
    ----------
    most : int
        The least recently used go when there are more.
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made where there is none; an error of ``make`` is raised."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                if len(self._values) > self._most:
                    _close(self._values.popitem(last=False)[1])
            self._values.move_to_end(key)
            return cast("Value", self._values[key])

    def close(self) -> None:
        """Let all values go."""
        with self._lock:
            while self._values:
                _close(self._values.popitem()[1])


Function = Callable[[Kept, Item], Value]
"""A task: gets what its process keeps, and an item. At module level, so that it can be pickled."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """One task that was done, or failed.

    Attributes
    ----------
    index : int
        Of the item, from 0.
    item : object
        What the task was about.
    value : object
        What the function returned; None where it failed.
    error : Exception or None
        What it raised.
    """

    index: int
    item: Item
    value: Value | None = None
    error: Exception | None = None

    def result(self) -> Value:
        """Return what the function returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return cast("Value", self.value)


class Runner(Protocol):
    """Where tasks are run: in this process, or on a cluster."""

    @property
    def is_distributed(self) -> bool:
        """Whether tasks run in other processes, so that what they get and return is pickled."""
        ...

    @property
    def width(self) -> int:
        """How many tasks run at once now, 1 or more."""
        ...

    def call(self, function: Callable[[Kept], Value]) -> Value:
        """Run one function where the tasks run, and return or raise what it does."""
        ...

    def run(
        self, function: Function[Item, Value], items: Iterable[Item], *, ordered: bool = False
    ) -> Iterator[Outcome[Item, Value]]:
        """Yield the outcome of each item once, as they come or in the order of the items."""
        ...

    def close(self) -> None:
        """Let go what is kept, and who waits."""
        ...


class SerialRunner:
    """One task after the other in this process."""

    is_distributed = False
    width = 1

    def __init__(self) -> None:
        self._kept = Kept()

    def close(self) -> None:
        """Let go what was kept."""
        self._kept.close()

    def call(self, function: Callable[[Kept], Value]) -> Value:
        """Run a function."""
        return function(self._kept)

    def run(
        self, function: Function[Item, Value], items: Iterable[Item], *, ordered: bool = False
    ) -> Iterator[Outcome[Item, Value]]:
        """Yield the outcome of each item, in order.

        Parameters
        ----------
        function : callable
            Takes a :class:`Kept` and an item.
        items : iterable
            Read one at a time.
        ordered : bool
            They are in any case.
        """
        del ordered
        for index, item in enumerate(items):
            yield attempt(function, self._kept, index, item)


def _close(value: object) -> None:
    """Close what can be closed."""
    close = getattr(value, "close", None)
    if close is not None:
        close()


def attempt(
    function: Function[Item, Value], kept: Kept, index: int, item: Item
) -> Outcome[Item, Value]:
    """Run one task; what it raises becomes its outcome."""
    try:
        return Outcome(index, item, function(kept, item))
    except Exception as error:  # noqa: BLE001  # whoever asked decides what an error means
        return Outcome(index, item, error=error)


def portable(error: Exception) -> Exception:
    """Return an error that survives the way to another process, its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        restored = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:  # noqa: BLE001  # libraries define errors that cannot be built again
        restored = None
    if type(restored) is type(error):
        return error
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    for note in error.__notes__:
        plain.add_note(note)
    return plain
