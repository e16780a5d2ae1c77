"""A project in napari: what it has, and a model that learns from its labels; no Qt in it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sam_plugins.model.engine.project.learning import Learned
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.tuning_options import FineTuningOptions
    from sam_plugins.napari_plugin.jobs import JobProgress


@dataclass(frozen=True)
class TrainParams:
    """How a model learns; see :class:`~sam_plugins.model.engine.tuning_options.FineTuningOptions`.

    Parameters
    ----------
    method : {"full", "decoder", "lora"}
    steps, rounds : int
    learning_rate : float
    """

    method: str = field(
        default="full",
        metadata={
            "label": "What learns",
            "choices": ["full", "decoder", "lora"],
            "tooltip": "All of the model; the decoders alone, which is quicker; or small adapters "
            "of a large encoder (needs the extra 'train')",
        },
    )
    steps: int = field(
        default=300,
        metadata={
            "label": "Steps",
            "min": 2,
            "max": 100_000,
            "tooltip": "How long it learns; the best of what was measured on the way is kept",
        },
    )
    rounds: int = field(
        default=6,
        metadata={
            "label": "Measured",
            "min": 1,
            "max": 100,
            "tooltip": "How often it is measured on the pictures that are held out",
        },
    )
    learning_rate: float = field(
        default=1e-4,
        metadata={
            "label": "Learning rate",
            "widget_type": "FloatSpinBox",
            "min": 1e-6,
            "max": 1e-2,
            "step": 1e-5,
            "tooltip": "How much it changes at a step",
        },
    )


@dataclass(frozen=True)
class ProjectSummary:
    """What a project has.

    Attributes
    ----------
    train, held_out, objects : int
        Labelled pictures to learn from and to measure on, and objects in all.
    proposals, waiting : int
        Objects that a model proposed and nobody has judged, and the pictures that they lie in.
    unlabelled : int
        Pictures in which nobody labelled anything; some of them may wait.
    """

    train: int
    held_out: int
    objects: int
    proposals: int = 0
    waiting: int = 0
    unlabelled: int = 0

    @property
    def can_train(self) -> bool:
        """Whether there is something to learn from and something to measure on."""
        return self.train > 0 and self.held_out > 0

    def __str__(self) -> str:
        """Say it in a line."""
        text = (
            f"{self.objects} objects; {self.train} labelled pictures to learn from, "
            f"{self.held_out} to measure on"
        )
        if not self.can_train:
            text += ". Training needs both: label and add another picture"
        return text


def open_project(folder: Path, name: str) -> Project:
    """Open a project, or make it where there is none.

    Raises
    ------
    ProjectError
        If it is damaged, or cannot be made.
    StoreError
        If no model can have the name.
    """
    from sam_plugins.model.engine.project.project import Project, ProjectSettings

    if (folder / "project.sqlite").exists():
        return Project.open(folder)
    return Project.create(folder, ProjectSettings(name))


def summarise(project: Project) -> ProjectSummary:
    """Return what a project has."""
    from sam_plugins.model.engine.label_store import TRUSTED, ReviewState, Split

    labelled = {one.image_id for one in project.labels.objects(reviews=TRUSTED)}
    counts: dict[Split | None, int] = dict.fromkeys(Split, 0)
    unlabelled = 0
    for one in project.labels.images():
        if one.is_complete or one.image_id in labelled:
            counts[one.split] = counts.get(one.split, 0) + 1
        else:
            unlabelled += 1
    proposed = project.labels.objects(reviews=[ReviewState.PROPOSED])
    return ProjectSummary(
        counts[Split.TRAIN],
        counts[Split.HELD_OUT],
        len(project.labels.objects(reviews=TRUSTED)),
        len(proposed),
        len({one.image_id for one in proposed}),
        unlabelled,
    )


@dataclass(frozen=True)
class TrainingNews:
    """What training tells on the way.

    Attributes
    ----------
    step : int
    loss : float or None
    value : float or None
        Mean of what was measured on the held-out pictures, after a round.
    seconds_left : float or None
    measuring : (int, int) or None
        Held-out pictures that are measured, and all of them, while a round is measured.
    """

    step: int
    loss: float | None
    value: float | None
    seconds_left: float | None
    measuring: tuple[int, int] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes
    ----------
    learned : Learned
    before, after : Path or None
        Pictures of what the model did and does on held-out pictures.
    """

    learned: Learned
    before: Path | None
    after: Path | None


def tuning_options(params: TrainParams) -> FineTuningOptions:
    """Return what people chose as the engine takes it."""
    from sam_plugins.model.engine.tuning_options import FineTuningOptions

    return FineTuningOptions(
        method=params.method,  # type: ignore[arg-type]
        steps=params.steps,
        rounds=min(params.rounds, params.steps),
        learning_rate=params.learning_rate,
    )


def train_project(
    folder: Path, name: str, params: TrainParams, device: str, *, progress: JobProgress
) -> TrainingResult:
    """Let the model of a project learn from all labels, and store it where it is better.

    Cancelled, it keeps the best of what was measured so far, if that was better at all.
    """
    from sam_plugins.model.engine.fine_tuning import TrainingProgress
    from sam_plugins.model.engine.project.learning import labelled_files, learn
    from sam_plugins.model.inference.loading import checked_device
    from sam_plugins.napari_plugin.jobs import cancel_inside_networks

    cancel_inside_networks()
    progress(0, params.steps)
    options = tuning_options(params)

    def tell(now: TrainingProgress) -> None:
        value = None if now.figures is None else float(np.mean(list(now.figures.values())))
        progress.hand_over(TrainingNews(now.step, now.loss, value, now.seconds_left, now.measuring))
        progress(now.step, now.steps)

    where = checked_device(None if device == "auto" else device)
    with open_project(folder, name) as project, project.job("train"):
        parent = project.model_name()
        _, held_out = labelled_files(project)
        learned = learn(project, options, device=where, on_progress=tell)
        if learned.version is None or progress.is_cancelled:
            return TrainingResult(learned, None, None)
        before, after = (
            _samples(model, held_out, str(where)) for model in (parent, str(learned.version))
        )
        return TrainingResult(learned, before, after)


def _samples(model: str, files: Any, device: str) -> Path | None:  # noqa: ANN401
    """Draw what a model does with a click on held-out pictures."""
    from sam_plugins.model.engine.run_pictures import write_samples
    from sam_plugins.model.inference.loading import load_model

    path = Path(tempfile.mkdtemp(prefix="sam-plugins-samples-")) / "samples.png"
    loaded = load_model(model, device=device, show_progress=False)
    return path if write_samples(path, loaded, files) else None
