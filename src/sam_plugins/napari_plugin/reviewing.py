"""The review queue of a project: what a model proposes is looked at by a person; no Qt in it.

Pictures whose proposals wait come first, then those from which the model would learn most, in which
it then proposes what it is sure of.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import ProjectError
from sam_plugins.napari_plugin.folder_pictures import LayerPixels
from sam_plugins.napari_plugin.training import ProjectSummary, open_project, summarise

if TYPE_CHECKING:
    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.labelling import Labelled
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.napari_plugin.jobs import JobProgress


@dataclass(frozen=True, eq=False)
class PictureToReview:
    """A picture of a project with what is known of it.

    Parameters
    ----------
    image_id, name : str
    layer : LayerPixels
    labels : ndarray of shape (H, W), uint32
        Its proposals, and what people labelled before.
    proposals : int
        How many of them wait.
    why : str
        Why it is this one.
    project : ProjectSummary
    """

    image_id: str
    name: str
    layer: LayerPixels
    labels: npt.NDArray[np.uint32]
    proposals: int
    why: str
    project: ProjectSummary


@dataclass(frozen=True)
class Reviewed:
    """What a review came to.

    Parameters
    ----------
    labelled : Labelled
    project : ProjectSummary
    """

    labelled: Labelled
    project: ProjectSummary


@dataclass(frozen=True)
class BroughtIn:
    """What bringing pictures into a project came to.

    Parameters
    ----------
    new : int
        Pictures that the project did not have.
    skipped : tuple of str
        Why others were left out.
    project : ProjectSummary
    """

    new: int
    skipped: tuple[str, ...]
    project: ProjectSummary


def bring_pictures(folder: Path, name: str, pictures: Path, *, progress: JobProgress) -> BroughtIn:
    """Let a project know the pictures of a folder, which stay where they are.

    Parameters
    ----------
    folder : Path
        Of the project; made where there is none.
    name : str
        Of the project and its models.
    pictures : Path
    progress : JobProgress

    Raises
    ------
    DatasetError
        If there is no picture.
    """
    from sam_plugins.errors import ImageError
    from sam_plugins.napari_plugin.folder import PictureFolder

    paths = PictureFolder(pictures).paths
    skipped: list[str] = []
    with open_project(folder, name) as project:
        before = len(project.labels.images())
        try:
            for done, path in enumerate(paths):
                progress(done, len(paths))
                try:
                    project.labels.add_images([path])
                except ImageError as error:  # the others go on
                    skipped.append(f"{path.name}: {error}")
        finally:
            project.divide()
        progress(len(paths), len(paths))
        new = len(project.labels.images()) - before
        return BroughtIn(new, tuple(skipped), summarise(project))


def next_to_review(
    folder: Path, passed: Collection[str], device: str, *, progress: JobProgress
) -> PictureToReview:
    """Return the next picture that a person should look at, with what the model proposes.

    Parameters
    ----------
    folder : Path
        Of the project.
    passed : collection of str
        Ids of pictures that the person has passed by; they come again when no other one is left.
    device : str
        Where the model of the project computes.
    progress : JobProgress
        Told of pictures that the model has looked at, and all of them.

    Raises
    ------
    ProjectError
        If there is no project, or every picture is labelled.
    ProjectBusyError
        If another job is at work on the project.
    ImageError, LabelStoreError
        If the picture is gone or has changed.
    """
    from sam_plugins.model.engine.label_store import ReviewState
    from sam_plugins.model.engine.project.project import Project

    with Project.open(folder) as project:
        progress.check()
        proposed = project.labels.objects(reviews=[ReviewState.PROPOSED])
        waiting = list(dict.fromkeys(one.image_id for one in proposed))
        new = [image_id for image_id in waiting if image_id not in passed]
        if new:
            return _picture(project, project.labels.image(new[0]), "its proposals wait")
        if not summarise(project).unlabelled:
            if waiting:
                return _picture(project, project.labels.image(waiting[0]), "its proposals wait")
            raise ProjectError(
                "every picture of the project is labelled: press Bring in pictures for more"
            )
        record, why = _chosen(project, passed, device, progress)
        return _picture(project, record, why)


def _chosen(
    project: Project, passed: Collection[str], device: str, progress: JobProgress
) -> tuple[ImageRecord, str]:
    """Let the engine choose a picture and the model propose objects in it."""
    from sam_plugins.model.engine.project.automatic import put_proposals
    from sam_plugins.model.engine.project.choosing import choose_pictures
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.learning import sure_score
    from sam_plugins.model.inference.loading import checked_device, load_model
    from sam_plugins.napari_plugin.jobs import cancel_inside_networks

    cancel_inside_networks()
    where = checked_device(None if device == "auto" else device)
    cache = usual_cache()
    with project.job("next"):
        model = load_model(project.model_name(), device=where, show_progress=False)
        choices = choose_pictures(
            project,
            model,
            cache,
            len(passed) + 1,
            on_progress=progress,
            on_failure=lambda _, error: progress.hand_over(error),
        )
        choice = next((one for one in choices if one.record.image_id not in passed), choices[0])
        progress(0, 0)
        min_score = sure_score(project, model.model_id)
        put_proposals(project, model, cache, choice.record, min_score=min_score)
    gain = choice.gain
    why = "to measure on" if gain is None else f"the model would learn most, {gain.total:.2f} of 1"
    return choice.record, why


def _picture(project: Project, record: ImageRecord, why: str) -> PictureToReview:
    """Read a picture of a project and paint its objects."""
    from sam_plugins.model.engine.label_store import ReviewState
    from sam_plugins.model.engine.label_store.label_images import paint_objects

    pixels = project.labels.read_image(record.image_id)
    has_colours = pixels.ndim == 3 and pixels.shape[:2] == record.size_hw
    is_rgb = has_colours and pixels.shape[2] in (3, 4)
    if has_colours and not is_rgb:
        pixels = np.moveaxis(pixels, 2, 0)
    layer = LayerPixels(pixels, is_rgb, 0 if pixels.ndim == 3 and not is_rgb else None)
    return PictureToReview(
        record.image_id,
        record.name,
        layer,
        paint_objects(record.size_hw, _standing(project, record.image_id)).labels.astype(np.uint32),
        len(project.labels.objects(record.image_id, reviews=[ReviewState.PROPOSED])),
        why,
        summarise(project),
    )


def _standing(project: Project, image_id: str) -> list[Any]:
    """Return the objects of a picture that nobody has rejected."""
    from sam_plugins.model.engine.label_store import ReviewState

    every = project.labels.objects(image_id, crowds=False)
    return [one for one in every if one.review != ReviewState.REJECTED]


def accept_review(
    folder: Path,
    picture: PictureToReview,
    labels: npt.NDArray[Any],
    *,
    is_complete: bool,
    progress: JobProgress,
) -> Reviewed:
    """Take over the objects of a picture as a person left them.

    Proposals that are as they were are accepted, changed ones corrected, those that are gone
    rejected; others are new objects.

    Parameters
    ----------
    folder : Path
        Of the project.
    picture : PictureToReview
        As it was opened.
    labels : ndarray of shape (H, W), integer
        Its objects now.
    is_complete : bool
        Whether every visible object is labelled.
    progress : JobProgress

    Raises
    ------
    ProjectError
        If no object is left, and there may be some.
    """
    from sam_plugins.model.engine.project.labelling import (
        Person,
        bring_label_image,
        judge_proposals,
    )
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.project.state import user_name

    if not is_complete and not np.any(labels):
        raise ProjectError(
            "there is no object to accept: press Reject all, or say that every object is labelled "
            "where there is none"
        )
    with Project.open(folder) as project:
        progress.check()
        person = Person(user_name())
        if np.array_equal(labels, picture.labels):  # masks as they are, also where they overlap
            done = judge_proposals(project, picture.image_id, person, are_objects=True)
        else:
            record = project.labels.image(picture.image_id)
            done = bring_label_image(project, record, labels, person)
        if is_complete:
            project.labels.set_complete(picture.image_id)
        return Reviewed(done, summarise(project))


def reject_review(folder: Path, picture: PictureToReview, *, progress: JobProgress) -> Reviewed:
    """Say that no proposal of a picture is an object; what people labelled stays.

    Parameters
    ----------
    folder : Path
        Of the project.
    picture : PictureToReview
    progress : JobProgress
    """
    from sam_plugins.model.engine.project.labelling import Person, judge_proposals
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.project.state import user_name

    with Project.open(folder) as project:
        progress.check()
        person = Person(user_name())
        done = judge_proposals(project, picture.image_id, person, are_objects=False)
        return Reviewed(done, summarise(project))
