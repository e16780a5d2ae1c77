"""Labels of people, brought in without a window: a label image, or prompts that a model answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.errors import ProjectError
from sam_plugins.model.engine.label_store import (
    ImageRecord,
    LabelledObject,
    PromptEvent,
    PromptKind,
    ReviewState,
    Stage,
)
from sam_plugins.model.engine.project.asking import answer_in_turn
from sam_plugins.model.engine.project.encoding import encode_cached
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts
from sam_plugins.model.io.label_files import warn_of_mask
from sam_plugins.model.io.rle import decode_mask, encode_mask

_SAME_IOU = 0.98
"""IoU from which a mask is the one that was proposed: tools that fill and save move few pixels."""

_MEANT_IOU = 0.5
PROPOSED_BY = "proposed_by"
"""In ``extra`` of an object that another answer corrected: the model that proposed it."""

PROPOSED_SCORE = "proposed_score"
"""The same, the score that it was proposed with."""

_KEYS = {"points_xy", "point_labels", "box_xyxy", "class_name", "seconds", "corrects"}
_DOCUMENT_KEYS = {"objects", "accept", "reject"}


@dataclass(frozen=True)
class Person:
    """Who labelled, and how long it took.

    Parameters
    ----------
    author : str
    seconds : float or None
        For the whole picture; divided equally among the objects that the person touched.
    class_name : str
        Of objects that are new.
    """

    author: str
    seconds: float | None = None
    class_name: str = "object"

    def __post_init__(self) -> None:
        """Check that both are there."""
        if not self.author or not self.class_name:
            raise ValueError("author and class_name must not be empty")
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(f"seconds must be 0 or more, got {self.seconds}")


@dataclass(frozen=True)
class Labelled:
    """What labelling a picture came to.

    Attributes
    ----------
    accepted, corrected, added, rejected : int
        Proposals that stayed as they were and rejections that were taken back, objects that got
        another mask, new objects, and proposals and objects that are none.
    """

    accepted: int = 0
    corrected: int = 0
    added: int = 0
    rejected: int = 0

    def __str__(self) -> str:
        """Say it in a line.

        Examples
        --------
        >>> print(Labelled(accepted=3, rejected=1))
        3 accepted, 1 rejected
        """
        counts = [f"{count} {name}" for name, count in asdict(self).items() if count]
        return ", ".join(counts) or "nothing changed"


def bring_label_image(
    project: Project,
    record: ImageRecord,
    labels: NDArray[Any],
    person: Person,
    *,
    keeps_others: bool = False,
) -> Labelled:
    """Take over the objects of a label image.

    They are compared with what the project has of the picture. A mask that is a proposal (IoU 0.98
    or more) accepts it; one that overlaps an object by more than one half corrects it, which keeps
    its prompts; one that is a rejected object takes the rejection back; any other is a new object.
    Proposals and objects that are missing are rejected.

    Parameters
    ----------
    project : Project
    record : ImageRecord
    labels : ndarray of shape (H, W), integer
        0 is background.
    person : Person
    keeps_others : bool
        Whether objects that are missing in the label image stay as they are.

    Raises
    ------
    ProjectError
        If it is no label image of that picture.
    """
    if labels.shape != record.size_hw or not (
        np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_
    ):
        raise ProjectError(
            f"the label image of {record.name} must have shape {record.size_hw} and hold integers, "
            f"got shape {labels.shape} of {labels.dtype}; export it again without scaling, as "
            "16-bit TIFF or PNG"
        )
    if labels.size and labels.min() < 0:
        raise ProjectError(
            f"the label image of {record.name} must hold 0 and object numbers, got "
            f"{labels.min()}; export it again"
        )
    warn_of_mask(labels, record.name)
    every = project.labels.objects(record.image_id, crowds=False)
    known = [one for one in every if one.review != ReviewState.REJECTED]
    rejected_before = [one for one in every if one.review == ReviewState.REJECTED]
    matches = _matches(labels, known)
    # Who brought the label image of another picture rejected everything, and brings the right one.
    returned = {
        label: rejected_before[index].object_id
        for label, (index, iou) in _matches(labels, rejected_before).items()
        if iou >= _SAME_IOU
    }
    left = set(range(len(known)))
    accepted: list[str] = []
    changed: list[LabelledObject] = []
    added: list[LabelledObject] = []
    for label, rle in _rles_of(labels):
        index, iou = matches.get(label, (-1, 0.0))
        if index < 0:
            if label in returned:
                accepted.append(returned[label])
            else:
                added.append(_new(record, rle, person, Stage.IMPORTED))
            continue
        left.discard(index)
        one = known[index]
        if iou < _SAME_IOU:
            changed.append(
                replace(one, rle=rle, author=person.author, review=ReviewState.CORRECTED)
            )
        elif one.review == ReviewState.PROPOSED:
            accepted.append(one.object_id)
    rejected = [] if keeps_others else [known[index].object_id for index in sorted(left)]
    _store(project, person, accepted, [*changed, *added], rejected)
    return Labelled(len(accepted), len(changed), len(added), len(rejected))


def bring_prompts(
    project: Project,
    record: ImageRecord,
    document: object,
    person: Person,
    model: Model,
    cache: EmbeddingCache,
) -> Labelled:
    """Let the model answer prompts, and store what it answers as a person's objects.

    An answer that is an object which the picture has already (IoU 0.98 or more) is that object, so
    that the same document twice adds nothing, and a prompt on a proposal accepts it.

    Parameters
    ----------
    project : Project
    record : ImageRecord
    document : object
        From JSON: ``{"objects": [...], "accept": [ids], "reject": [ids]}``, each optional. An
        object has ``points_xy`` ``[[x, y], ...]`` with ``point_labels`` (1 on it, 0 beside it; all
        1 by default) or ``box_xyxy`` or both, and may have ``class_name``, ``seconds``, and
        ``corrects``, the id of an object: its mask is replaced, with points alone by one that they
        correct, see :func:`~.asking.answer_in_turn`.
    person : Person
    model : Model
        The one that people work with.
    cache : EmbeddingCache

    Raises
    ------
    ProjectError
        If the document is not like this, names an unknown object, or asks for nothing.
    """
    wanted, accepted, rejected = _checked(project, record, document)
    made: list[LabelledObject] = []
    corrected = same = 0
    known = _standing(project, record, rejected)
    if wanted:
        pixels = project.labels.read_image(record.image_id)
        embedding = encode_cached(model, to_rgb(pixels), cache)
        for number, one in enumerate(wanted, start=1):
            try:
                prompts = Prompts.for_object(
                    one.get("points_xy"), one.get("point_labels"), one.get("box_xyxy")
                )
                answer = _asked(project, one, model, embedding, prompts)
            except (TypeError, ValueError) as error:
                raise ProjectError(f"object {number} of the prompts: {error}") from error
            mask = answer.mask(0)
            if not mask.any():
                raise ProjectError(
                    f"object {number} of the prompts: the model's answer is empty; add a point in "
                    "its middle, or a box"
                )
            new = _answered(project, record, one, mask, answer, person, model.model_id)
            if "corrects" in one:
                corrected += 1
            elif (before := _same(mask, known)) is not None:
                same += 1
                new = replace(new, object_id=before.object_id, created_at=before.created_at)
            made.append(new)
            known[new.object_id] = new
    own = [one for one in made if one.seconds is not None]
    _store(project, person, accepted, made, rejected, timed=len(own))
    added = len(made) - corrected - same
    return Labelled(len(accepted) + same, corrected, added, len(rejected))


def _standing(
    project: Project, record: ImageRecord, rejected: Sequence[str]
) -> dict[str, LabelledObject]:
    """Return the objects of a picture that nobody has rejected, by id."""
    return {
        one.object_id: one
        for one in project.labels.objects(record.image_id, crowds=False)
        if one.review != ReviewState.REJECTED and one.object_id not in rejected
    }


def _same(mask: NDArray[np.bool_], known: Mapping[str, LabelledObject]) -> LabelledObject | None:
    """Return the object that a mask is."""
    objects = list(known.values())
    index, iou = _matches(mask.astype(np.uint8), objects).get(1, (-1, 0.0))
    return objects[index] if iou >= _SAME_IOU else None


def _asked(
    project: Project,
    one: Mapping[str, Any],
    model: Model,
    embedding: ImageEmbedding,
    prompts: Prompts,
) -> MaskPrediction:
    """Return the answer to the prompts of one object, which may correct another's mask."""
    if "corrects" not in one:
        return answer_in_turn(model, embedding, prompts)
    before = project.labels.object(one["corrects"])
    mask = decode_mask(before.rle)
    return answer_in_turn(model, embedding, prompts, mask=mask, said=before.prompts)


def _answered(
    project: Project,
    record: ImageRecord,
    one: Mapping[str, Any],
    mask: NDArray[np.bool_],
    answer: MaskPrediction,
    person: Person,
    model_id: str,
) -> LabelledObject:
    """Return the object that a model's answer is."""
    new = _new(record, encode_mask(mask), person, Stage.ASSISTED_MANUAL)
    new = replace(
        new,
        prompts=_events(one),
        seconds=one.get("seconds"),
        model_id=model_id,
        score=float(answer.iou_predictions[0, 0]),
        class_name=one.get("class_name", person.class_name),
    )
    if "corrects" not in one:
        return new
    before = project.labels.object(one["corrects"])
    proposed = {PROPOSED_BY: before.model_id, PROPOSED_SCORE: before.score}
    return replace(
        new,
        extra={name: before.extra.get(name, value) for name, value in proposed.items()},
        object_id=before.object_id,
        class_name=one.get("class_name", before.class_name),
        prompts=(*before.prompts, *new.prompts),
        created_at=before.created_at,
        stage=before.stage,
        review=ReviewState.CORRECTED,
    )


def _described(value: object) -> str:
    """Return the keys of a JSON object, or what something else is."""
    return ", ".join(sorted(value)) or "{}" if isinstance(value, dict) else repr(value)


def accepting_all(project: Project, record: ImageRecord, document: object) -> dict[str, Any]:
    """Return prompts that also accept every proposal of a picture on which they say nothing.

    Raises
    ------
    ProjectError
        If the document is not as :func:`bring_prompts` takes it.
    """
    lists = _lists_of(document)
    corrected = [one.get("corrects") for one in lists["objects"] if isinstance(one, dict)]
    judged = [*lists["reject"], *lists["accept"], *corrected]
    proposals = [one for one in project.proposals_of(record.image_id) if one not in judged]
    return {**lists, "accept": [*lists["accept"], *proposals]}


def judge_proposals(
    project: Project, image_id: str, person: Person, *, are_objects: bool
) -> Labelled:
    """Say of all proposals of a picture at once that they are objects as they are, or none.

    Parameters
    ----------
    project : Project
    image_id : str
    person : Person
    are_objects : bool
    """
    proposals = project.proposals_of(image_id)
    if are_objects:
        _store(project, person, proposals, [], [])
        return Labelled(accepted=len(proposals))
    _store(project, person, [], [], proposals)
    return Labelled(rejected=len(proposals))


def _lists_of(document: object) -> dict[str, list[Any]]:
    """Return the lists of a document, empty where it has none."""
    if not isinstance(document, dict) or set(document) - _DOCUMENT_KEYS:
        raise ProjectError(
            "the prompts must be a JSON object with 'objects', 'accept' and 'reject', got "
            f"{_described(document)}"
        )
    lists = {key: document.get(key, []) for key in ("objects", "accept", "reject")}
    if not all(isinstance(one, list) for one in lists.values()):
        raise ProjectError("'objects', 'accept' and 'reject' of the prompts must be lists")
    return lists


def _checked(
    project: Project, record: ImageRecord, document: object
) -> tuple[list[Mapping[str, Any]], list[str], list[str]]:
    """Return the objects, and the ids to accept and to reject."""
    wanted, accepted, rejected = _lists_of(document).values()
    if not wanted and not accepted and not rejected:
        raise ProjectError("the prompts ask for nothing: give 'objects', 'accept' or 'reject'")
    for number, one in enumerate(wanted, start=1):
        if not isinstance(one, dict) or set(one) - _KEYS:
            raise ProjectError(
                f"object {number} of the prompts must be a JSON object of "
                f"{', '.join(map(repr, sorted(_KEYS)))}, got {_described(one)}"
            )
        seconds = one.get("seconds")
        if seconds is not None and not _is_time(seconds):
            raise ProjectError(
                f"object {number} of the prompts: seconds must be 0 or more, got {seconds!r}"
            )
        class_name = one.get("class_name", "object")
        if not (isinstance(class_name, str) and class_name):
            raise ProjectError(
                f"object {number} of the prompts: class_name must be a name, got {class_name!r}"
            )
    named = [*accepted, *rejected, *(one["corrects"] for one in wanted if "corrects" in one)]
    own = {one.object_id for one in project.labels.objects(record.image_id)}
    unknown = [one for one in named if not (isinstance(one, str) and one in own)]
    if unknown:
        raise ProjectError(
            f"{record.name} has no object {unknown[0]!r}; `sam-plugins engine next --json` and "
            "`sam-plugins engine status --image NAME --json` name its objects"
        )
    return wanted, accepted, rejected


def _is_time(seconds: object) -> bool:
    """Return whether something is a number of seconds."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return is_number and 0 <= seconds < float("inf")  # type: ignore[operator]


def _store(
    project: Project,
    person: Person,
    accepted: Sequence[str],
    made: Sequence[LabelledObject],
    rejected: Sequence[str],
    timed: int = 0,
) -> None:
    """Write down what a person did, and share the time out among it."""
    count = len(accepted) + len(made) + len(rejected) - timed
    each = None if person.seconds is None or not count else person.seconds / count
    project.labels.put_objects(
        one if each is None or one.seconds is not None else replace(one, seconds=each)
        for one in made
    )
    for ids, review in ((accepted, ReviewState.ACCEPTED), (rejected, ReviewState.REJECTED)):
        for object_id in ids:
            project.labels.set_review(object_id, review, author=person.author, seconds=each)


def _new(
    record: ImageRecord, rle: Mapping[str, Any], person: Person, stage: Stage
) -> LabelledObject:
    """Return a new object of a person."""
    return LabelledObject(
        record.image_id,
        rle,
        class_name=person.class_name,
        author=person.author,
        stage=stage,
        review=ReviewState.ACCEPTED,
    )


def _events(one: Mapping[str, Any]) -> tuple[PromptEvent, ...]:
    """Return prompts as the label store keeps them: the box, then the points."""
    events = []
    if one.get("box_xyxy") is not None:
        events.append(PromptEvent.box(*one["box_xyxy"]))
    points = one.get("points_xy") or []
    signs = one.get("point_labels") or [1] * len(points)
    events += [
        PromptEvent(PromptKind.POINT, tuple(point), is_positive=bool(sign))
        for point, sign in zip(points, signs, strict=True)
    ]
    return tuple(events)


def _rles_of(labels: NDArray[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every object of a label image with its mask as RLE."""
    values, compact = np.unique(labels, return_inverse=True)
    numbers = compact.reshape(labels.shape).astype(np.int32) + 1
    size_hw = labels.shape[0], labels.shape[1]
    for index, window in enumerate(ndimage.find_objects(numbers), start=1):
        if window is not None and values[index - 1] > 0:
            offset = window[0].start, window[1].start
            mask = numbers[window] == index
            yield int(values[index - 1]), encode_mask(mask, offset_yx=offset, size_hw=size_hw)


def _matches(labels: NDArray[Any], known: Sequence[LabelledObject]) -> dict[int, tuple[int, float]]:
    """Return for labels which object each means, and their IoU; the best pairs first."""
    values, counts = np.unique(labels, return_counts=True)
    areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
    pairs = []
    for index, one in enumerate(known):
        under = labels[decode_mask(one.rle)]
        for label, shared in zip(*np.unique(under[under > 0], return_counts=True), strict=True):
            iou = float(shared / (areas[int(label)] + under.size - shared))
            if iou > _MEANT_IOU:
                pairs.append((iou, int(label), index))
    matches: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for iou, label, index in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if label not in matches and index not in taken:
            matches[label] = index, iou
            taken.add(index)
    return matches
