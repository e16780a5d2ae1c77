"""What goes to which stream: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TextIO, TypeVar

from sam_plugins.cli.wording import in_options
from sam_plugins.durations import duration
from sam_plugins.errors import OutputError

T = TypeVar("T")
_STREAMS = 3
_LINE_SECONDS = 30.0
_NO_WORK_SECONDS = 0.02
_USUAL_SIZE = {"ncols": 80, "nrows": 24}
_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


class StandardOutputError(OutputError):
    """Standard output takes nothing more, so that what was asked for cannot be said."""


def say(text: str) -> None:
    """Print a line that was asked for.

    Raises
    ------
    BrokenPipeError
        If the reader of a pipe left.
    StandardOutputError
        If it cannot be written for another reason.
    """
    if sys.stdout is None:
        raise StandardOutputError(
            "cannot write to standard output: it is closed; redirect it to a file"
        )
    with _told_apart():
        print(text, flush=True)


def say_json(values: Any) -> None:  # noqa: ANN401
    """Print values as JSON; errors as in :func:`say`."""
    say(json.dumps(values, indent=1, allow_nan=False))


def flush_output() -> None:
    """Print what others have left for standard output; errors as in :func:`say`."""
    if sys.stdout is not None:
        with _told_apart():
            sys.stdout.flush()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell errors of standard output from those of files."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise StandardOutputError(
            f"cannot write to standard output: {reason}; redirect it to another place"
        ) from error


def abandon_output() -> None:
    """Send the rest of standard output nowhere: Python would fail on it once more at the end."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def occupy_closed_streams() -> None:
    """Put nothing in the place of closed standard streams, lest a file of ours gets their number.

    Whatever a library prints would land in it.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor >= _STREAMS:
            os.close(descriptor)
            return


def complain(text: str) -> None:
    """Print a line about what went wrong, on one line whatever it says."""
    _tell(f"sam-plugins: {' '.join(text.split())}")


def mention(text: str) -> None:
    """Print a line for people, silent in a pipe."""
    if is_terminal():
        _tell(text)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list that takes the lines for standard error, and the warnings, of the block.

    For work in another process, whose lines belong to the program that people started, see
    :func:`pass_on`. Nothing is drawn meanwhile, whatever the process' standard error is.
    """
    lines: list[str] = []
    token = _COLLECTED.set(lines)
    try:
        with warnings_in_one_line():
            yield lines
    finally:
        _COLLECTED.reset(token)


def pass_on(lines: Iterable[str]) -> None:
    """Print lines that were collected elsewhere."""
    for line in lines:
        _tell(line)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings as people read them, without file and line."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        complain(f"warning: {in_options(str(message))}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _tell(text: str) -> None:
    """Print to standard error; where nobody listens, the work goes on."""
    lines = _COLLECTED.get()
    if lines is not None:
        lines.append(text)
    elif sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Return whether a person sees standard error."""
    return _COLLECTED.get() is None and sys.stderr is not None and sys.stderr.isatty()


def with_progress(items: Sequence[T], unit: str) -> Iterator[T]:
    """Yield items, with a progress bar on a terminal where there are several, or lines."""
    with counted_progress(len(items), unit) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def counted_progress(total: int, unit: str) -> Iterator[Callable[[], object]]:
    """Yield a function to call after each of several items, for a bar or for lines in a log."""
    if not is_terminal():
        done = itertools.count(1)
        tell = LoggedProgress("", f"{unit}s")
        tell(0, total)
        yield lambda: tell(next(done), total)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=total < 2, leave=False, **bar_size()) as bar:
        yield bar.update


@contextmanager
def step_progress(
    description: str, unit: str = "steps", share: float = 1.0
) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function of (steps done, steps in all) that draws a bar.

    Without a terminal it prints a line now and then, see :class:`LoggedProgress`; None where
    nobody reads either.
    """
    if not is_terminal():
        yield None if _COLLECTED.get() is not None else LoggedProgress(description, unit, share)
        return
    from tqdm import tqdm

    with tqdm(desc=description, leave=False, **bar_size()) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


class LoggedProgress:
    """Progress for who reads a log: a line every half minute, none for what takes less.

    Parameters
    ----------
    description : str
        What is worked on.
    unit : str
        What there are many of, in the plural.
    share : float
        Share of the steps, the first ones, that are such units; the rest finishes the work.
    clock : callable, optional
        The time in seconds.
    """

    def __init__(
        self,
        description: str,
        unit: str,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._description, self._unit, self._share, self._clock = description, unit, share, clock
        self._next = clock() + _LINE_SECONDS
        self._last: tuple[float, int] | None = None
        self._worked = _Worked()

    def __call__(self, done: int, total: int) -> None:
        """Take note of the steps done, of so many in all."""
        now = self._clock()
        if self._last is not None and now - self._last[0] >= _NO_WORK_SECONDS:
            self._worked.add(now - self._last[0], done - self._last[1])
        self._last = (now, done)
        if now >= self._next and done < total:
            self._next = now + _LINE_SECONDS
            complain(self._line(done, total))

    def rest(self, done: int, meanwhile: str) -> None:
        """Take note that no step is under way: what is done meanwhile is no time of steps."""
        now = self._clock()
        self._last = (now, done)
        if now >= self._next:
            self._next = now + _LINE_SECONDS
            complain(f"{self._description}: {meanwhile}" if self._description else meanwhile)

    def _line(self, done: int, total: int) -> str:
        """Return what is said."""
        units = round(total * self._share)
        beginning = f"{self._description}: " if self._description else ""
        if done >= units:
            return f"{beginning}{units} of {units} {self._unit}, putting them together"
        left = self._worked.seconds_for(units - done)
        expected = "" if left is None else f", about {duration(left)} left"
        return f"{beginning}{done} of {units} {self._unit}{expected}"


@dataclass
class _Worked:
    """How long steps took, without those that an earlier run had done: these take no time."""

    seconds: float = 0.0
    steps: int = 0

    def add(self, seconds: float, steps: int) -> None:
        """Count steps."""
        self.seconds += seconds
        self.steps += steps

    def seconds_for(self, steps: int) -> float | None:
        """Return how long more of them take, None where nobody knows yet."""
        return steps * self.seconds / self.steps if self.steps else None


class StageBars:
    """One bar after the other, for the stages of a long command; use it in a ``with`` block."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._stage = ""
        self._bar: Callable[[int, int], None] | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._open.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage; the bar of the one before goes."""
        if stage != self._stage:
            self._open.close()
            self._stage = stage
            self._bar = self._open.enter_context(step_progress(stage))
        if self._bar is not None:
            self._bar(done, total)


def bar_size() -> dict[str, int]:
    """Return a size for bars where a terminal has none (``script``, containers): tqdm hides them.

    Nothing where it has one, whose changes tqdm follows.
    """
    with contextlib.suppress(OSError, ValueError):
        if all(os.get_terminal_size(sys.stderr.fileno())):
            return {}
    return _USUAL_SIZE


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of equal keys as aligned columns with a heading."""
    if not rows:
        return ""
    keys = list(rows[0])
    widths = [max(len(key), *(len(row[key]) for row in rows)) for key in keys]
    lines = [{key: key.upper() for key in keys}, *rows]
    return "\n".join(
        "  ".join(line[key].ljust(width) for key, width in zip(keys, widths, strict=True)).rstrip()
        for line in lines
    )


def counted(count: int, noun: str) -> str:
    """Return how many there are of something.

    Examples
    --------
    >>> counted(1, "object"), counted(0, "object")
    ('1 object', '0 objects')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def in_bytes(count: int) -> str:
    """Return a size as people say it.

    Examples
    --------
    >>> in_bytes(375042383)
    '375.0 MB'
    """
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
