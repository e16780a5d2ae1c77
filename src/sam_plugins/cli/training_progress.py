"""How far a training is, by its phases: preparing, measuring, and steps, which alone are timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sam_plugins.cli.console import LoggedProgress, bar_size, is_terminal

if TYPE_CHECKING:
    from sam_plugins.model.engine.tuning_progress import TrainingProgress

_DESCRIPTION = "training"


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield a function that draws a bar of what is told; without a terminal, a line now and then.

    The time that is left is guessed from the steps alone.
    """
    if not is_terminal():
        logged = LoggedProgress(_DESCRIPTION, "steps")

        def log(now: TrainingProgress) -> None:
            phase = phase_of(now)
            if phase:
                logged.rest(now.step, phase)
            else:
                logged(now.step, now.steps)

        yield log
        return
    from tqdm import tqdm

    with tqdm(desc="preparing pictures", leave=False, **bar_size()) as bar:

        def update(now: TrainingProgress) -> None:
            phase = phase_of(now)
            bar.total = now.steps
            bar.set_description(phase or _DESCRIPTION, refresh=bool(phase))
            if phase:
                bar.unpause()  # its clock goes on from here
            bar.update(now.step - bar.n)

        yield update


def phase_of(now: TrainingProgress) -> str:
    """Return what is done beside steps, for people; empty while there are steps.

    Examples
    --------
    >>> from sam_plugins.model.engine.tuning_progress import TrainingProgress
    >>> phase_of(TrainingProgress(0, 60, measuring=(2, 8)))
    'measuring the model it starts from, 2 of 8 pictures'
    """
    if now.preparing is not None:
        done, total = now.preparing
        return f"preparing pictures, {done} of {total}"
    if now.measuring is not None:
        done, total = now.measuring
        what = f"after step {now.step}" if now.step else "the model it starts from"
        return f"measuring {what}, {done} of {total} pictures"
    return ""
