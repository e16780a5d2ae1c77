"""A run in its folder: a log of every step, and a check now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sam_plugins.model.training.run_log import RunLog, read_log
from sam_plugins.model.training.run_recipe import Recipe
from sam_plugins.model.training.run_steps import Batches, Stop, run_steps
from sam_plugins.model.training.state import TrainingState

STATE_NAME = "state.safetensors"
LOG_NAME = "log.csv"
_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "seconds")

Batch = TypeVar("Batch")


def marks_of(steps: int, checks: int, *others: int) -> list[int]:
    """Return the steps after which is checked: 0, as many as are wanted, and others.

    Examples
    --------
    >>> marks_of(100, 3, 40)
    [0, 33, 40, 66, 100]
    """
    return sorted({0, *others, *(steps * (i + 1) // checks for i in range(checks))})


def run_with_checks(
    state: TrainingState[Any],
    batches: Batches[Batch],
    learn: Callable[[Batch], Mapping[str, float]],
    check: Callable[[], None],
    *,
    marks: Iterable[int],
    folder: Path,
    recipe: Recipe,
    save_every_seconds: float,
    workers: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> None:
    """Learn until the last mark, from wherever the state is.

    Parameters
    ----------
    state, batches, learn, recipe, workers
        See :func:`~sam_plugins.model.training.run_steps.run_steps`.
    check : callable
        Called after every mark that is reached; also where the run begins at one, because what was
        checked there may not have been written down.
    marks : iterable of int
        Steps, in their order; the last is that of the run.
    folder : Path
        Of the state and the log.
    save_every_seconds : float
    on_step : callable, optional
        Told the loss of every step.
    """
    start = time.monotonic() - _seconds_so_far(folder / LOG_NAME, state.step)
    with RunLog(folder / LOG_NAME, _COLUMNS, state.step) as log:

        def after(values: Mapping[str, float]) -> None:
            log.add({"step": state.step, **values, "seconds": time.monotonic() - start})
            if on_step is not None:
                on_step(values["loss"])

        for mark in marks:
            if mark > state.step:
                run_steps(
                    state,
                    batches,
                    learn,
                    Stop(mark, save_every_seconds=save_every_seconds),
                    state_path=folder / STATE_NAME,
                    recipe=recipe,
                    workers=workers,
                    after=after,
                )
            if mark == state.step:
                check()


def _seconds_so_far(log: Path, step: int) -> float:
    """Return how long the steps took that are done."""
    rows = [row for row in read_log(log) if row["seconds"] and int(row["step"]) <= step]
    return max((float(row["seconds"]) for row in rows), default=0.0)
