"""A person who labels a picture, played by its ground truth; every click is counted.

The person looks at the proposals first. One that covers an object well is accepted as it is; one
that means an object but misses its shape is corrected, click by click, each in the middle of the
larger error (RITM's protocol, Sofiiuk et al. 2021, section 4); one that means none is deleted,
which is a click. Then every object that is missing is clicked in its middle, or boxed, and
corrected in the same way. What the model does not learn in :attr:`AnnotatorOptions.max_clicks` is
drawn by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.evaluation.click_curve import Click, Dialogue, next_click
from sam_plugins.model.evaluation.loaded import LoadedModel
from sam_plugins.model.evaluation.prompts import TrueObject, true_objects
from sam_plugins.model.inference.candidates import chain_of
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.io.rle import encode_mask

BoolArray = NDArray[np.bool_]

_BOX_CLICKS = 2  # two corners


@dataclass(frozen=True)
class AnnotatorOptions:
    """What a simulated person does.

    Parameters
    ----------
    accept_iou : float
        IoU with the true object from which a mask is left as it is.
    match_iou : float
        IoU above which a proposal means an object; 0.5 or more, so that it means one at most.
    max_clicks : int
        Clicks on one object until it is drawn by hand.
    drawing_clicks : int
        What drawing by hand costs beside them: the corners of a polygon.
    first : {"point", "box"}
        How a missing object is asked for; a box counts two clicks.
    """

    accept_iou: float = 0.85
    match_iou: float = 0.5
    max_clicks: int = 6
    drawing_clicks: int = 10
    first: Literal["point", "box"] = "point"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.5 <= self.match_iou <= self.accept_iou <= 1:
            raise ValueError(
                "match_iou and accept_iou must lie between 0.5 and 1 in this order, got "
                f"{self.match_iou} and {self.accept_iou}"
            )
        if self.max_clicks < 1 or self.drawing_clicks < 0:
            raise ValueError(
                "max_clicks must be 1 or more and drawing_clicks 0 or more, got "
                f"{self.max_clicks} and {self.drawing_clicks}"
            )
        if self.first not in {"point", "box"}:
            raise ValueError(f"first must be 'point' or 'box', got {self.first!r}")


class Outcome(StrEnum):
    """How an object came to be labelled."""

    UNTOUCHED = "untouched"
    """Proposed, and accepted as it was."""
    CORRECTED = "corrected"
    """Proposed, and corrected."""
    ADDED = "added"
    """Not proposed; asked for by the person."""
    DRAWN = "drawn"
    """By hand, in the end."""


@dataclass(frozen=True)
class AnnotatedObject:
    """An object that the person labelled.

    Attributes
    ----------
    true_id : int
        Label of the true object.
    rle : dict
        COCO RLE of the mask that was kept.
    iou : float
        Of the mask with the true object.
    outcome : Outcome
    clicks : int
    dialogue : Dialogue
        What the mask was asked for with; the seed of a proposal comes first and is no click.
    score : float or None
        Of the proposal.
    """

    true_id: int
    rle: dict[str, Any]
    iou: float
    outcome: Outcome
    clicks: int
    dialogue: Dialogue = field(repr=False)
    score: float | None = None


@dataclass(frozen=True)
class AnnotatedPicture:
    """What labelling a picture took.

    Attributes
    ----------
    objects : tuple of AnnotatedObject
    deleted : int
        False proposals.
    """

    objects: tuple[AnnotatedObject, ...]
    deleted: int

    @property
    def clicks(self) -> int:
        """All clicks, those on false proposals too."""
        return self.deleted + sum(one.clicks for one in self.objects)

    def count(self, outcome: Outcome) -> int:
        """Return how many objects ended in one way."""
        return sum(one.outcome == outcome for one in self.objects)


def annotate(
    model: Model,
    image: LabelledImage,
    embedding: ImageEmbedding,
    proposals: Sequence[Proposal],
    options: AnnotatorOptions | None = None,
) -> AnnotatedPicture:
    """Label a picture as a person would, with a model's help.

    Parameters
    ----------
    model : Model
    image : LabelledImage
        With the ground truth. Where it is ignored, nothing counts; where it is not complete, a
        proposal that means no known object is left alone.
    embedding : ImageEmbedding
        Of the picture, by the same model.
    proposals : sequence of Proposal
        May be none.
    options : AnnotatorOptions, optional
    """
    person = _Person(LoadedModel(model), embedding, image, options or AnnotatorOptions())
    objects = list(true_objects(image.labels))
    matches, deleted = person.match(objects, proposals)
    with torch.inference_mode():
        done = tuple(
            person.add(one)
            if one.object_id not in matches
            else person.look(one, proposals[matches[one.object_id]])
            for one in objects
        )
    return AnnotatedPicture(done, deleted)


@dataclass(frozen=True)
class _Person:
    """A person before one picture."""

    model: LoadedModel
    embedding: ImageEmbedding
    image: LabelledImage
    options: AnnotatorOptions

    def match(
        self, objects: Sequence[TrueObject], proposals: Sequence[Proposal]
    ) -> tuple[dict[int, int], int]:
        """Return which proposal means which object, and how many mean none."""
        areas = {one.object_id: one.area for one in objects}
        matches: dict[int, int] = {}
        false = 0
        for index, proposal in enumerate(proposals):
            window, mask = proposal.window_mask
            inside = self.image.labels[window][mask]
            area, ignored = int(mask.sum()), 0
            if self.image.ignore is not None:
                ignored = int(self.image.ignore[window][mask].sum())
            ids, shared = np.unique(inside[inside > 0], return_counts=True)
            ious = [n / (area + areas[int(i)] - n) for i, n in zip(ids, shared, strict=True)]
            best = int(np.argmax(ious)) if ious else -1
            if best >= 0 and ious[best] > self.options.match_iou:
                matches[int(ids[best])] = index  # above one half, no other proposal can have it
            elif self.image.complete and ignored <= area / 2:
                false += 1
        return matches, false

    def look(self, one: TrueObject, proposal: Proposal) -> AnnotatedObject:
        """Accept or correct a proposal."""
        wanted, found = self._drawn(one.window, one.mask), self._drawn(*proposal.window_mask)
        x, y = proposal.point_xy
        seed = Click(round(x), round(y), is_positive=True)
        iou = self._iou(wanted, found)
        if iou >= self.options.accept_iou:
            said = Dialogue((seed,))
            return self._done(one, found, iou, Outcome.UNTOUCHED, 0, said, proposal.score)
        # What the model said when it was asked at the seed; the person's clicks go on from there.
        answers = self.model.predict_points(
            self.embedding, np.array([proposal.point_xy], np.float32)
        ).logits
        masks = [self._mask(answers[:, which : which + 1]) for which in range(answers.shape[1])]
        nearest = int(np.argmax([self._iou(found, mask) for mask in masks]))
        clicks = (seed,) if wanted[seed.y, seed.x] else ()
        dialogue = Dialogue(clicks, logits=answers[:, nearest : nearest + 1])
        return self._correct(one, wanted, found, dialogue, Outcome.CORRECTED, 0, proposal.score)

    def add(self, one: TrueObject) -> AnnotatedObject:
        """Ask for an object that nobody proposed."""
        wanted = self._drawn(one.window, one.mask)
        if self.options.first == "box":
            dialogue, clicks = Dialogue(box_xyxy=one.box_xyxy), _BOX_CLICKS
        else:
            dialogue, clicks = Dialogue((Click(*one.point_xy, is_positive=True),)), 1
        dialogue, found = self._ask(dialogue)
        return self._correct(one, wanted, found, dialogue, Outcome.ADDED, clicks, None)

    def _correct(
        self,
        one: TrueObject,
        wanted: BoolArray,
        found: BoolArray,
        dialogue: Dialogue,
        outcome: Outcome,
        clicks: int,
        score: float | None,
    ) -> AnnotatedObject:
        """Click until the mask is good enough, or draw it."""
        counted = None if self.image.ignore is None else ~self.image.ignore
        iou = self._iou(wanted, found)
        while iou < self.options.accept_iou:
            click = next_click(wanted, found, dialogue.clicks, counted)
            if click is None or clicks >= self.options.max_clicks:
                clicks += self.options.drawing_clicks
                return self._done(one, wanted, 1.0, Outcome.DRAWN, clicks, Dialogue(), score)
            dialogue, found = self._ask(replace(dialogue, clicks=(*dialogue.clicks, click)))
            clicks += 1
            iou = self._iou(wanted, found)
        return self._done(one, found, iou, outcome, clicks, dialogue, score)

    def _ask(self, dialogue: Dialogue) -> tuple[Dialogue, BoolArray]:
        """Return the dialogue with the answer's logits, and its mask."""
        logits = self.model.answer(self.embedding, dialogue).logits
        return replace(dialogue, logits=logits), self._mask(logits)

    def _mask(self, logits: torch.Tensor) -> BoolArray:
        """Return logits (1, 1, h, w) as a mask of the picture's size."""
        drawn = chain_of(self.embedding).draw(logits[0, 0].float().cpu().numpy())
        return self._drawn(*drawn)

    def _drawn(self, window: tuple[slice, slice], mask: BoolArray) -> BoolArray:
        """Return a mask at the picture's size."""
        whole = np.zeros(self.image.labels.shape, bool)
        whole[window] = mask
        return whole

    def _iou(self, wanted: BoolArray, found: BoolArray) -> float:
        """Return the IoU of two masks where the truth is known."""
        both, either = wanted & found, wanted | found
        if self.image.ignore is not None:
            both, either = both & ~self.image.ignore, either & ~self.image.ignore
        area = np.count_nonzero(either)
        return float(np.count_nonzero(both) / area) if area else 1.0

    @staticmethod
    def _done(
        one: TrueObject,
        mask: BoolArray,
        iou: float,
        outcome: Outcome,
        clicks: int,
        dialogue: Dialogue,
        score: float | None,
    ) -> AnnotatedObject:
        """Return the object as it was left."""
        said = replace(dialogue, logits=None)
        return AnnotatedObject(one.object_id, encode_mask(mask), iou, outcome, clicks, said, score)
