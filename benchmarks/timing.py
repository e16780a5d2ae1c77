"""Time sides against each other in one run, and say on which machine."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Action = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of every repetition of one side."""

    seconds: Sequence[float]

    @property
    def minimum(self) -> float:
        """The fastest repetition."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)


def interleave(
    sides: Mapping[str, Action],
    *,
    repetitions: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every side in turn, again and again, so that a busy machine is busy for all of them.

    Parameters
    ----------
    sides : mapping of name to callable
    repetitions : int
        Of each side.
    warm_up : int
        Repetitions before, which are not counted.
    clock : callable
        Returns seconds: of the wall, or ``time.process_time``, which does not count what other
        programs take but counts threads that only wait for each other.

    Returns
    -------
    dict of str to Timing
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(warm_up + repetitions):
        for name, action in sides.items():
            start = clock()
            action()
            if index >= warm_up:
                seconds[name].append(clock() - start)
    return {name: Timing(values) for name, values in seconds.items()}


def table(timings: Mapping[str, Timing], baseline: str, *, unit: str) -> str:
    """Return a table in Markdown; ratios are how many times as fast as ``baseline``.

    Parameters
    ----------
    timings : mapping of name to Timing
        From :func:`interleave`.
    baseline : str
        A name of them.
    unit : {"s", "ms"}
    """
    factor, digits = (1, 2) if unit == "s" else (1000, 1)
    lines = [
        f"| | min, {unit} | median, {unit} | times as fast, of min | of median |",
        "|---|---|---|---|---|",
    ]
    reference = timings[baseline]
    for name, timing in timings.items():
        lines.append(
            f"| {name} | {timing.minimum * factor:.{digits}f} | {timing.median * factor:.{digits}f}"
            f" | {reference.minimum / timing.minimum:.2f}"
            f" | {reference.median / timing.median:.2f} |"
        )
    return "\n".join(lines)


def conditions(repetitions: int, clock: Callable[[], float]) -> str:
    """Return one line: commit, processor, threads, versions, and how busy the machine was."""
    what = "wall time" if clock is time.perf_counter else "processor time"
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"Commit {_commit()}; {_processor()}, {os.cpu_count()} cores{load}; "
        f"{torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}; {what} of {repetitions} interleaved repetitions."
    )


def _commit() -> str:
    """Return the commit, with a plus sign if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    """Return the name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
