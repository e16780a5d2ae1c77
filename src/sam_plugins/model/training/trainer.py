"""A training run in slices: stop anywhere, go on exactly there, on any machine.

Batches, prompts and the learning rate are pure functions of the seed and the step, and the state
holds weights, their average, the optimiser's moments and the step. So many short slices compute
what one long run would have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, StepDataset, TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.simulated_session import simulate_session
from sam_plugins.model.training.state import TrainingState

Report = Callable[[int, Mapping[str, float]], None]
"""Called after every step with its number and what was measured."""


def train(
    state: TrainingState[Sam],
    batches: BatchMaker,
    config: TrainingConfig,
    *,
    state_path: Path | None = None,
    stop_at: int | None = None,
    max_seconds: float = math.inf,
    save_every_seconds: float = 300.0,
    workers: int = 1,
    report: Report | None = None,
) -> bool:
    """Train until the run is complete or the time of this slice is used up.

    Parameters
    ----------
    state : TrainingState
        Changed in place.
    batches : BatchMaker
        A pure function of the step.
    config : TrainingConfig
    state_path : Path, optional
        Where the state is saved from time to time and at the end of the slice.
    stop_at : int, optional
        Last step of this slice; the schedule's last by default.
    max_seconds, save_every_seconds : float
    workers : int
        Processes that prepare batches; 0 prepares them here.
    report : callable, optional

    Returns
    -------
    bool
        Whether the run is complete.

    Raises
    ------
    TrainingError
        If the loss is no longer a number; the state saved last is still good.
    """
    start = saved = time.monotonic()
    recipe = TrainingRecipe.of(state.model.config, config, batches)
    device = next(state.model.parameters()).device
    state.model.train()
    for part in state.model.modules():
        # What does not learn must not move either: batch normalisation would keep its statistics.
        if not any(parameter.requires_grad for parameter in part.parameters()):
            part.eval()
    last = config.steps if stop_at is None else min(stop_at, config.steps)
    for batch in _upcoming(batches, state.step, last, workers):
        values = train_step(state, batch.to(device), config)
        if report is not None:
            report(state.step, values)
        now = time.monotonic()
        is_over = now - start >= max_seconds
        if state_path is not None and not is_over and now - saved >= save_every_seconds:
            state.save(state_path, recipe)
            saved = now
        if is_over:
            break
    if state_path is not None:
        state.save(state_path, recipe)
    return state.step >= config.steps


def train_step(
    state: TrainingState[Sam], batch: TrainingBatch, config: TrainingConfig
) -> dict[str, float]:
    """Do one step: simulate, back-propagate, move the weights and their average.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    """
    rate = config.learning_rate_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    result = simulate_session(state.model, batch, config, state.step)
    if not torch.isfinite(result.loss):
        raise TrainingError(
            f"the loss of step {state.step} is not a number; go on from the last state with a "
            "lower learning rate"
        )
    state.optimizer.zero_grad(set_to_none=True)
    result.loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    state.optimizer.step()
    state.update_average(config.ema_decay_at(state.step))
    state.step += 1
    return result.values | {"learning_rate": rate, "gradient_norm": float(norm)}


def _upcoming(
    batches: BatchMaker, first_step: int, steps: int, workers: int
) -> Iterator[TrainingBatch]:
    """Yield the batches from a step on, prepared ahead by worker processes."""
    yield from DataLoader(
        StepDataset(batches, first_step, max(0, steps - first_step)),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
