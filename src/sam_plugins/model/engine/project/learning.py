"""A project's model learns from its labels, and becomes a version of the model store."""

from __future__ import annotations

import shutil
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
from sam_plugins.model.engine.label_store import PromptEvent, PromptKind, ReviewState, Split
from sam_plugins.model.engine.label_store.types import TRUSTED
from sam_plugins.model.engine.project.labelling import PROPOSED_BY, PROPOSED_SCORE
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.project.training_place import (
    ProjectRun,
    discard_training,
    place_of_one_go,
    training_run,
)
from sam_plugins.model.engine.proposals import calibrated_min_score
from sam_plugins.model.engine.tuning_progress import Run
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.store import StoredVersion

_CLICKS = {PromptKind.POINT: 1, PromptKind.BOX: 2}


@dataclass(frozen=True)
class Learned:
    """What a training of a project came to.

    Attributes
    ----------
    result : FineTuned
        Its file is gone, unless it was ended early; the weights are in the store.
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
    on_resume: Callable[[int], object] | None = None,
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
    on_resume : callable, optional
        With it, the state of the training is saved in the project's folder, and one that was ended
        early goes on where labels, options and the model that it started from are the same; told
        how many steps of it are measured. Without it every training begins anew.

    Raises
    ------
    DatasetError
        If there are too few labels.
    TrainingError
        If the loss is no longer a number.
    StoreError
        If the model store cannot be written; the trained model then lies in the project's folder.
    """
    options = options.for_device(device)
    name = project.settings.name
    project.models.require_writable(name)
    start = time.perf_counter()
    train, held_out = labelled_files(project)
    parent = project.model_name()
    objects = sum(
        len(project.labels.objects(one.image_id, reviews=TRUSTED, crowds=False))
        for one in project.labels.images(split=Split.TRAIN)
    )

    def tuned(path: Path, run: Run | None = None) -> FineTuned:
        return fine_tune(
            parent,
            train,
            held_out,
            path,
            options,
            name=name,
            device=device,
            on_progress=on_progress,
            run=run,
        )

    if on_resume is None:
        with place_of_one_go(project) as place:
            result = tuned(place / "model.safetensors")
            version = _stored(project, result, note) if result.is_better else None
    else:
        folder = training_run(project, options, parent, train, held_out)
        if folder.state_path.exists():
            start -= folder.seconds
            on_resume(folder.rounds()[-1].step)
        try:
            result = tuned(folder.best_path, ProjectRun(folder))
        except BaseException:
            if not folder.state_path.exists():  # nothing to go on from
                discard_training(project)
            raise
        version = _stored(project, result, note) if result.is_better else None
        if result.stopped_by is None:
            discard_training(project)
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
    clicks = sum(_CLICKS.get(event.kind, 0) for one in trusted for event in one.prompts) + len(
        rejected
    )
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


def sure_score(project: Project, model_id: str) -> float:
    """Return from which score on proposals of a model pay, by what people judged of them."""
    return calibrated_min_score(judged_proposals(project, model_id))


def judged_proposals(project: Project, model_id: str) -> list[tuple[float, bool]]:
    """Return the score of each proposal of a model that people judged, and whether it was one."""
    judged = []
    for one in project.labels.objects(reviews=[*TRUSTED, ReviewState.REJECTED]):
        if one.prompts and one.prompts[0].kind == PromptKind.SEED:
            score = one.extra.get(PROPOSED_SCORE, one.score)
            if score is not None and one.extra.get(PROPOSED_BY, one.model_id) == model_id:
                judged.append((score, one.review != ReviewState.REJECTED))
    return judged


def _is_proposed(prompts: tuple[PromptEvent, ...]) -> bool:
    """Return whether a mask was made from a seed of the model alone."""
    return {event.kind for event in prompts} == {PromptKind.SEED}


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
