"""A training run in slices: stop anywhere, go on exactly there, on any machine.

Batches, prompts and the learning rate are pure functions of the seed and the step, and the state
holds weights, their average, the optimiser's moments and the step. So many short slices compute
what one long run would have.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from sam_plugins.errors import MemoryLimitError, TrainingError, is_out_of_memory, memory_doubt
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import Batches, TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.encoder_layers import set_drop_path
from sam_plugins.model.training.processes import Processes, sum_gradients
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.run_steps import Stop, run_steps
from sam_plugins.model.training.simulated_session import ONE_PROCESS, simulate_session
from sam_plugins.model.training.state import TrainingState

Report = Callable[[int, Mapping[str, float]], None]
"""Called after every step with its number and what was measured."""


def train(
    state: TrainingState[Sam],
    batches: Batches,
    config: TrainingConfig,
    *,
    state_path: Path | None = None,
    stop_at: int | None = None,
    max_seconds: float = math.inf,
    save_every_seconds: float = 300.0,
    workers: int = 1,
    report: Report | None = None,
    processes: Processes = ONE_PROCESS,
) -> bool:
    """Train until the run is complete or the time of this slice is used up.

    Parameters
    ----------
    state : TrainingState
        Changed in place.
    batches : Batches
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
    processes : Processes
        Each does its part of every step; the first one saves and reports.

    Returns
    -------
    bool
        Whether the run is complete.

    Raises
    ------
    TrainingError
        If the loss is no longer a number; the state saved last is still good.
    MemoryLimitError
        If a step does not fit into memory; likewise.
    OutputError
        If the state cannot be saved, such as on a full disk; likewise.
    """
    recipe = TrainingRecipe.of(state.model.config, config, batches)
    device = next(state.model.parameters()).device
    is_first = processes.rank == 0
    if config.drop_path is not None:
        set_drop_path(state.model, config.drop_path)
    state.model.train()
    for part in state.model.modules():
        # What does not learn must not move either: batch normalisation would keep its statistics.
        if not any(parameter.requires_grad for parameter in part.parameters()):
            part.eval()
    last = config.steps if stop_at is None else min(stop_at, config.steps)
    run_steps(
        state,
        batches,
        lambda batch: train_step(state, batch.to(device), config, processes),
        Stop(last, max_seconds, save_every_seconds),
        state_path=state_path if is_first else None,
        recipe=recipe,
        workers=workers,
        after=(lambda values: report(state.step, values)) if report and is_first else None,
    )
    return state.step >= config.steps


def train_step(
    state: TrainingState[Sam],
    batch: TrainingBatch,
    config: TrainingConfig,
    processes: Processes = ONE_PROCESS,
) -> dict[str, float]:
    """Do one step: simulate, back-propagate, move the weights and their average.

    Raises
    ------
    TrainingError
        If the loss or a gradient is not finite; the weights are as before the step.
    MemoryLimitError
        If it does not fit into memory.
    """
    rate = config.learning_rate_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    with _memory_of_a_step(state.step), _drawn_for(config.seed, state.step, processes.rank):
        result = simulate_session(state.model, batch, config, state.step, processes)
        _require_number(result.values["loss"], "loss", state.step)
        state.optimizer.zero_grad(set_to_none=True)
        if result.loss.requires_grad:
            result.loss.backward()
        sum_gradients(list(state.model.parameters()), processes)
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
        _require_number(float(norm), "gradient", state.step)
        state.optimizer.step()
        state.update_average(config.ema_decay_at(state.step))
    state.step += 1
    return result.values | {"learning_rate": rate, "gradient_norm": float(norm)}


def _require_number(value: float, what: str, step: int) -> None:
    """Refuse to move the weights by what is no number."""
    if not math.isfinite(value):
        raise TrainingError(
            f"the {what} of step {step} is not a number; go on from the last state with a "
            "lower learning rate"
        )


@contextlib.contextmanager
def _drawn_for(seed: int, step: int, rank: int) -> Iterator[None]:
    """Make what layers draw, such as which branches they drop, a function of the step too."""
    with torch.random.fork_rng():
        torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
        yield


@contextlib.contextmanager
def _memory_of_a_step(step: int) -> Iterator[None]:
    """Translate every way in which memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryLimitError) or not is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            f"step {step} of the training ran out of memory{memory_doubt(error)}; take smaller or "
            "fewer crops (crop_sizes), or leave the image encoder as it is (method 'decoder')"
        ) from error
