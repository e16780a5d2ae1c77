"""A project's model learns from its labels, and becomes a version of the model store."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sam_plugins.errors import DatasetError, StoreError
from sam_plugins.model.engine.fine_tuning import (
    FineTuned,
    FineTuningOptions,
    TrainingProgress,
    fine_tune,
)
from sam_plugins.model.engine.label_store import ReviewState, Split
from sam_plugins.model.engine.label_store.types import TRUSTED
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.store import StoredVersion


@dataclass(frozen=True)
class Learned:
    """What a training of a project came to.

    Attributes
    ----------
    result : FineTuned
        Its file is gone; the weights are in the store.
    version : StoredVersion or None
        None where nothing was better than the model that it started from.
    round_number : int
    pictures, held_out, objects : int
        Pictures that were learned from and measured on, and objects that were learned from.
    """

    result: FineTuned
    version: StoredVersion | None
    round_number: int
    pictures: int
    held_out: int
    objects: int


def labelled_files(project: Project) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the labelled pictures to learn from, and those to measure on.

    Raises
    ------
    DatasetError
        If one of the two is empty; the message says what to label.
    """
    train = project.labels.as_labelled_files(Split.TRAIN)
    held_out = project.labels.as_labelled_files(Split.HELD_OUT)
    if not train or not held_out:
        raise DatasetError(
            "training needs labelled pictures to learn from and labelled ones that are held out "
            f"to measure on, got {len(train)} and {len(held_out)}; `sam-plugins engine next` "
            "names pictures of both kinds"
        )
    return train, held_out


def learn(
    project: Project,
    options: FineTuningOptions,
    *,
    note: str = "",
    device: torch.device | str = "cpu",
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> Learned:
    """Fine-tune the model that people work with on all labels, and store it where it is better.

    Parameters
    ----------
    project : Project
    options : FineTuningOptions
    note : str
        Kept with the version, for people.
    device : device
    on_progress : callable, optional
        As for :func:`~sam_plugins.model.engine.fine_tuning.fine_tune`.

    Raises
    ------
    DatasetError
        If there are too few labels.
    TrainingError
        If the loss is no longer a number.
    StoreError
        If the model store cannot be written; the trained model then lies in the project's folder.
    """
    name = project.settings.name
    project.models.require_writable(name)
    start = time.perf_counter()
    train, held_out = labelled_files(project)
    parent = project.model_name()
    objects = sum(
        len(project.labels.objects(one.image_id, reviews=TRUSTED, crowds=False))
        for one in project.labels.images(split=Split.TRAIN)
    )
    with tempfile.TemporaryDirectory(prefix="sam-plugins-") as folder:
        result = fine_tune(
            parent,
            train,
            held_out,
            Path(folder) / "model.safetensors",
            options,
            name=name,
            device=device,
            on_progress=on_progress,
        )
        version = _stored(project, result, note) if result.is_better else None
    number = project.state.put_round(
        result.comparison.parent,
        None if version is None else str(version),
        pictures=len(train),
        objects=objects,
        seconds=time.perf_counter() - start,
        details={
            "parent": parent,
            "held_out": len(held_out),
            "options": asdict(options),
            "best_step": result.best.step,
            "comparison": asdict(result.comparison),
            "figures": dict(result.best.figures),
            "work": work_so_far(project),
        },
    )
    return Learned(result, version, number, len(train), len(held_out), objects)


def work_so_far(project: Project) -> dict[str, float | int | None]:
    """Return what people have done so far: objects, clicks and seconds per object.

    Clicks are the points and boxes that people gave, a box counting two; seconds are told by people
    or not known (None).
    """
    trusted = project.labels.objects(reviews=TRUSTED)
    rejected = project.labels.objects(reviews=[ReviewState.REJECTED])
    clicks = sum(
        {"point": 1, "box": 2}.get(str(event.kind), 0) for one in trusted for event in one.prompts
    ) + len(rejected)
    timed = [one.seconds for one in trusted if one.seconds is not None]
    return {
        "objects": len(trusted),
        "untouched": sum(
            one.review == ReviewState.ACCEPTED and _is_proposed(one.prompts) for one in trusted
        ),
        "rejected": len(rejected),
        "clicks_per_object": clicks / len(trusted) if trusted else None,
        "seconds_per_object": sum(timed) / len(timed) if timed else None,
    }


def _is_proposed(prompts: tuple[object, ...]) -> bool:
    """Return whether a mask was made from a seed of the model alone."""
    kinds = {str(getattr(event, "kind", "")) for event in prompts}
    return kinds == {"seed"}


def _stored(project: Project, result: FineTuned, note: str) -> StoredVersion:
    """Put the best weights into the store; where that fails, keep them in the project."""
    model_id = load_checkpoint(result.path).model_id
    try:
        return project.models.add(
            project.settings.name,
            result.path,
            model_id=model_id,
            comparison=result.comparison,
            note=note,
        )
    except StoreError as error:
        kept = project.folder / f"{project.settings.name}-{model_id}.safetensors"
        shutil.copyfile(result.path, kept)
        raise StoreError(f"{error}; the trained model is kept as {kept}") from error
