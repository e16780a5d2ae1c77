"""Many steps in slices: stop anywhere, be killed anywhere, and go on exactly there.

The batch of a step must be a pure function of the step, and learning from it must depend on nothing
but the state. Then any number of slices computes what one long run would have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sam_plugins.errors import TrainingError
from sam_plugins.model.training.run_recipe import Recipe
from sam_plugins.model.training.state import TrainingState

Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)


class Batches(Protocol[Batch_co]):
    """Whatever gives the batch of a step."""

    def batch(self, step: int) -> Batch_co:
        """Return the batch of a step, the same whenever it is asked for."""
        ...


@dataclass(frozen=True)
class Stop:
    """When a slice ends, and when the state is saved meanwhile.

    Parameters
    ----------
    steps : int
        Of the whole run.
    max_seconds, save_every_seconds : float
        At least one step is done, however short the time.
    """

    steps: int
    max_seconds: float = math.inf
    save_every_seconds: float = 60.0


def run_steps(
    state: TrainingState[Any],
    batches: Batches[Batch],
    learn: Callable[[Batch], Mapping[str, float]],
    stop: Stop,
    *,
    state_path: Path | None,
    recipe: Recipe,
    workers: int = 0,
    after: Callable[[Mapping[str, float]], None] | None = None,
) -> bool:
    """Learn until the run is complete or the time of this slice is used up.

    Parameters
    ----------
    state : TrainingState
        Changed in place, by ``learn``, which counts its steps.
    batches : Batches
    learn : callable
        Does the step of a batch, and returns what there is to say about it.
    stop : Stop
    state_path : Path or None
        Saved from time to time, and at the end of the slice; None saves nothing.
    recipe : Recipe
    workers : int
        Processes that prepare batches; 0 prepares them here.
    after : callable, optional
        Told after every step what ``learn`` returned.

    Returns
    -------
    bool
        Whether the run is complete.

    Raises
    ------
    TrainingError
        If the loss is no longer a number; the state saved last is still good.
    OutputError
        If the state cannot be written.
    """
    start = saved = time.monotonic()
    for batch in _upcoming(batches, state.step, stop.steps, workers):
        values = learn(batch)
        if after is not None:
            after(values)
        now = time.monotonic()
        if now - start >= stop.max_seconds:
            break
        if state_path is not None and now - saved >= stop.save_every_seconds:
            state.save(state_path, recipe)
            saved = now
    if state_path is not None:
        # Not where an error or Ctrl-C ended it: weights may have moved in part.
        state.save(state_path, recipe)
    return state.step >= stop.steps


def move_weights(
    state: TrainingState[Any], loss: Tensor, *, learning_rate: float, max_gradient_norm: float
) -> dict[str, float]:
    """Back-propagate a loss, move the weights, and count the step.

    Returns
    -------
    dict of str to float
        ``loss``, ``learning_rate`` and ``gradient_norm``, before it was limited.

    Raises
    ------
    TrainingError
        If the loss is not finite; no weight has moved.
    """
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss of step {state.step} is not a number; go on from the last state with a "
            "lower learning rate"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), max_gradient_norm)
    state.optimizer.step()
    state.step += 1
    return {
        "loss": float(loss.detach()),
        "learning_rate": learning_rate,
        "gradient_norm": float(norm),
    }


class _Steps(Dataset[Batch], Generic[Batch]):
    """The batches of some steps, for a data loader."""

    def __init__(self, batches: Batches[Batch], first: int, last: int) -> None:
        self.batches = batches
        self.first = first
        self.last = last

    def __len__(self) -> int:
        """Return the number of steps."""
        return max(0, self.last - self.first)

    def __getitem__(self, index: int) -> Batch:
        """Return the batch of a step, counted from the first one."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.batches.batch(self.first + index)


def _upcoming(batches: Batches[Batch], first: int, last: int, workers: int) -> Iterator[Batch]:
    """Yield the batches from a step on, prepared ahead by worker processes where there are any."""
    yield from DataLoader(
        _Steps(batches, first, last),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
