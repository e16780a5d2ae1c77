"""How long training will take, and the memory that it needs: a few steps are tried; no Qt in it."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.napari_plugin.training import (
    ProjectSummary,
    TrainParams,
    open_project,
    tuning_options,
)

if TYPE_CHECKING:
    from sam_plugins.model.engine.fine_tuning import TrainingProgress
    from sam_plugins.napari_plugin.jobs import JobProgress

_TRIED_STEPS = 4
_TRIED_PICTURES = 2


@dataclass(frozen=True)
class TrainingRates:
    """What a few steps said.

    Parameters
    ----------
    method, device : str
        What was tried; others have other rates.
    preparing : float
        Seconds before the first step, for each picture to learn from.
    step : float
        Seconds.
    measuring : float
        Seconds for each held-out picture.
    nbytes : int
        Most memory of the process, or of the graphics card; 0 where the system does not tell.
    """

    method: str
    device: str
    preparing: float
    step: float
    measuring: float
    nbytes: int

    def seconds(self, params: TrainParams, project: ProjectSummary) -> float:
        """Return how long a training takes.

        Parameters
        ----------
        params : TrainParams
            Of the same method.
        project : ProjectSummary
        """
        options = tuning_options(params)
        measured = 1 + options.round_count + len(options.shares)
        return (
            self.preparing * project.train
            + self.step * options.steps
            + self.measuring * project.held_out * measured
        )


def try_training(
    folder: Path, name: str, params: TrainParams, device: str, *, progress: JobProgress
) -> TrainingRates:
    """Train a few steps on a few pictures of a project, and keep nothing of it.

    For a process of its own: its peak memory is what counts.

    Raises
    ------
    DatasetError
        If there are too few labels.
    """
    from dataclasses import replace

    from sam_plugins.model.engine.fine_tuning import fine_tune
    from sam_plugins.model.engine.project.learning import labelled_files
    from sam_plugins.model.inference.loading import checked_device

    where = checked_device(None if device == "auto" else device)
    options = replace(tuning_options(params), steps=_TRIED_STEPS, rounds=1, shares=())
    with open_project(folder, name) as project:
        train, held_out = labelled_files(project)
        parent = project.model_name()
    train, held_out = train[:_TRIED_PICTURES], held_out[:1]
    began = time.monotonic()
    steps: list[float] = []

    def tell(now: TrainingProgress) -> None:
        progress(now.step, _TRIED_STEPS)
        if now.loss is not None:
            steps.append(time.monotonic())

    with tempfile.TemporaryDirectory(prefix="sam-plugins-") as place:
        path = Path(place) / "trial.safetensors"
        fine_tune(parent, train, held_out, path, options, device=where, on_progress=tell)
    ended = time.monotonic()
    step = (steps[-1] - steps[0]) / (len(steps) - 1)
    measuring = ended - steps[-1]
    preparing = max(0.0, steps[0] - began - measuring - step) / len(train)
    return TrainingRates(
        params.method, device, preparing, step, measuring, _peak_bytes(where.type == "cuda")
    )


def _peak_bytes(is_cuda: bool) -> int:
    """Return the most memory that this process had, 0 where the system does not tell."""
    if is_cuda:
        import torch

        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
