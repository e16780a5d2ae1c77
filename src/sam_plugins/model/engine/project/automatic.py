"""What a model does alone in a project: proposals for people, and whole pictures, resumable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.engine.automatic_masks import (
    AutomaticMask,
    AutomaticOptions,
    masks_of_decoder,
    masks_of_grid,
)
from sam_plugins.model.engine.label_store import (
    ImageRecord,
    LabelledObject,
    PromptEvent,
    ReviewState,
    Stage,
)
from sam_plugins.model.engine.label_store.content import read_unchanged
from sam_plugins.model.engine.label_store.types import TRUSTED
from sam_plugins.model.engine.project.encoding import encode_cached
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.proposals import MIN_SCORE, propose
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.large.closer import may_look_closer

_COVERED = 0.5
_REJECTED_IOU = 0.5


def put_proposals(
    project: Project,
    model: Model,
    cache: EmbeddingCache,
    record: ImageRecord,
    *,
    min_score: float = MIN_SCORE,
) -> list[LabelledObject]:
    """Fill in what the model is sure of in a picture, for a person to look at; return it.

    What people labelled is left alone, what they rejected is not proposed again, and proposals that
    nobody looked at are replaced. On a picture that is complete nothing is proposed.

    Parameters
    ----------
    project : Project
    model : Model
    cache : EmbeddingCache
    record : ImageRecord
    min_score : float
        See :func:`~sam_plugins.model.engine.proposals.propose`.
    """
    if project.labels.image(record.image_id).is_complete:
        return []
    rgb = to_rgb(project.labels.read_image(record.image_id))
    masks = []
    encode = partial(encode_cached, model, cache=cache)
    for one in propose(model, rgb, min_score=min_score, encode=encode):
        (rows, columns), mask = one.window_mask
        rle = encode_mask(mask, offset_yx=(rows.start, columns.start), size_hw=record.size_hw)
        masks.append(AutomaticMask(rle, one.score, one.point_xy))
    work = f"proposal-{model.model_id}{_way_of(model, record)}"
    return _replace(project, record, masks, Stage.SEMI_AUTOMATIC, work, model.model_id)


@dataclass(frozen=True)
class AutomaticWork:
    """Segmenting the pictures of a project without a person, one after the other.

    Killed at any moment, it goes on where it was: a picture is done when its objects are stored,
    and what is done with the same model and options is not done again.

    Parameters
    ----------
    project : Project
    model : Model
    options : AutomaticOptions
    cache : EmbeddingCache
    """

    project: Project
    model: Model
    options: AutomaticOptions
    cache: EmbeddingCache

    def digest(self, record: ImageRecord) -> str:
        """Return what tells this work on a picture from that with another model or other options.

        Pictures that the model sees as they are have the digest that they always had: a project
        that was done stays done. The others may be looked at in windows, and are done once more
        where that was before they were.
        """
        text = json.dumps([self.model.model_id, asdict(self.options)], sort_keys=True)
        if self.options.mode == "decoder":
            text += _way_of(self.model, record)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pending(self, records: Sequence[ImageRecord] | None = None) -> list[ImageRecord]:
        """Return the pictures that are left; those that people completed are none of them."""
        every = self.project.labels.images() if records is None else records
        digests = {one.image_id: self.digest(one) for one in every}
        done = {work: self.project.state.automatic(work) for work in {*digests.values()}}
        return [
            one
            for one in every
            if one.image_id not in done[digests[one.image_id]] and not one.is_complete
        ]

    def do(self, record: ImageRecord) -> int:
        """Segment one picture and store its objects; return how many.

        Raises
        ------
        UnreadableImageError
            If the picture cannot be read.
        LabelStoreError
            If it has changed, or the objects cannot be stored.
        """
        return self.store(record, find_objects(self.model, record, self.options, self.cache))

    def store(self, record: ImageRecord, found: FoundObjects) -> int:
        """Store what was found in a picture, here or elsewhere; return how many objects are new.

        Raises
        ------
        LabelStoreError
            If the objects cannot be stored.
        """
        work = self.digest(record)
        stored = _replace(
            self.project, record, found.masks, Stage.FULLY_AUTOMATIC, work, found.model_id
        )
        self.project.state.put_automatic(
            record.image_id, work, found.model_id, len(stored), found.seconds
        )
        return len(stored)


@dataclass(frozen=True)
class FoundObjects:
    """What a model found in a picture without a person: run-length codes, which travel well."""

    masks: Sequence[AutomaticMask]
    model_id: str
    seconds: float


def find_objects(
    model: Model, record: ImageRecord, options: AutomaticOptions, cache: EmbeddingCache
) -> FoundObjects:
    """Segment one picture; reads its file, and neither reads nor writes the project.

    Raises
    ------
    UnreadableImageError
        If the picture cannot be read.
    LabelStoreError
        If it has changed.
    """
    start = time.perf_counter()
    rgb = to_rgb(read_unchanged(record))
    if options.mode == "grid":
        masks = masks_of_grid(model, rgb, options)
    else:
        masks = masks_of_decoder(model, rgb, options, partial(encode_cached, model, cache=cache))
    return FoundObjects(masks, model.model_id, time.perf_counter() - start)


def _way_of(model: Model, record: ImageRecord) -> str:
    """Return what work on a picture is called after, so that it is not taken for what was before.

    Objects are known by their work and number, and those of a picture that may be looked at in
    windows are others than they were.
    """
    return "-windows" if may_look_closer(model, record.size_hw) else ""


def _replace(
    project: Project,
    record: ImageRecord,
    masks: Sequence[AutomaticMask],
    stage: Stage,
    work: str,
    model_id: str,
) -> list[LabelledObject]:
    """Store the objects that a model found in place of those that nobody has looked at."""
    is_free = _free_of(project, record)
    new = [
        LabelledObject(
            record.image_id,
            one.rle,
            # Found again after a kill between storing and noting it down.
            object_id=hashlib.sha256(f"{record.image_id}/{work}/{number}".encode()).hexdigest()[
                :32
            ],
            prompts=(PromptEvent.seed(*one.point_xy),),
            model_id=model_id,
            stage=stage,
            review=ReviewState.PROPOSED,
            score=one.score,
            extra={} if one.stability is None else {"stability_score": one.stability},
        )
        for number, one in enumerate(masks)
        if is_free(decode_mask(one.rle))
    ]
    known = {one.object_id: one for one in project.labels.objects(record.image_id)}
    # One that a person judged keeps the judgement.
    new = [
        one
        for one in new
        if one.object_id not in known or known[one.object_id].review == ReviewState.PROPOSED
    ]
    names = {one.object_id for one in new}
    for one in known.values():
        if one.review == ReviewState.PROPOSED and one.object_id not in names:
            project.labels.delete_object(one.object_id)
    project.labels.put_objects(new)
    return new


def _free_of(project: Project, record: ImageRecord) -> Callable[[NDArray[np.bool_]], bool]:
    """Return whether a mask is neither labelled by people nor rejected by them."""
    objects = project.labels.objects(record.image_id)
    taken = np.zeros(record.size_hw, bool)
    for one in objects:
        if one.review in TRUSTED:
            taken |= decode_mask(one.rle)
    rejected = [decode_mask(one.rle) for one in objects if one.review == ReviewState.REJECTED]

    def is_free(mask: NDArray[np.bool_]) -> bool:
        if np.count_nonzero(mask & taken) > _COVERED * np.count_nonzero(mask):
            return False
        return all(
            np.count_nonzero(mask & other) <= _REJECTED_IOU * np.count_nonzero(mask | other)
            for other in rejected
        )

    return is_free
