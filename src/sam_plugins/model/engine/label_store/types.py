"""What the label store holds: pictures, objects, the prompts that made them, and reviews."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.io.rle import decode_mask, encode_mask

BoolArray = NDArray[np.bool_]


class Stage(StrEnum):
    """Which stage of the data engine an object comes from."""

    ASSISTED_MANUAL = "assisted-manual"
    SEMI_AUTOMATIC = "semi-automatic"
    FULLY_AUTOMATIC = "fully-automatic"
    IMPORTED = "imported"


class ReviewState(StrEnum):
    """What a person thinks of an object."""

    PROPOSED = "proposed"
    """By a model; nobody has looked yet."""
    ACCEPTED = "accepted"
    """As it is."""
    CORRECTED = "corrected"
    """After a change."""
    REJECTED = "rejected"
    """No object; kept so that it is not proposed again."""


TRUSTED = (ReviewState.ACCEPTED, ReviewState.CORRECTED)
"""What label images hold and models learn from."""


class Split(StrEnum):
    """Whether a picture is learned from or measured on."""

    TRAIN = "train"
    HELD_OUT = "held-out"


class PromptKind(StrEnum):
    """What a person, or the engine, gave the model."""

    POINT = "point"
    BOX = "box"
    MASK = "mask"
    TEXT = "text"
    SEED = "seed"
    """A point that the instance decoder or a grid chose."""


_NUMBERS_OF = {PromptKind.POINT: 2, PromptKind.SEED: 2, PromptKind.BOX: 4}


@dataclass(frozen=True)
class PromptEvent:
    """One prompt; their order in an object is the order in which they were given.

    Parameters
    ----------
    kind : PromptKind
    values : tuple of float
        ``(x, y)`` of a point or seed, ``(x0, y0, x1, y1)`` of a box; pixels, an integer is the
        centre of one.
    is_positive : bool
        Whether a point lies inside the object.
    text : str
        Of a text prompt.
    rle : mapping or None
        COCO RLE of a mask prompt.

    Raises
    ------
    ValueError
        If the values do not fit the kind.

    Examples
    --------
    >>> PromptEvent.point(3, 4, is_positive=False)
    PromptEvent(kind=<PromptKind.POINT: 'point'>, values=(3.0, 4.0), is_positive=False, text='',
                rle=None)
    """

    kind: PromptKind
    values: tuple[float, ...] = ()
    is_positive: bool = True
    text: str = ""
    rle: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check that the values fit the kind."""
        kind = _member(PromptKind, self.kind, "kind")
        values = tuple(float(value) for value in self.values)
        wanted = _NUMBERS_OF.get(kind, 0)
        if len(values) != wanted or not np.isfinite(values).all():
            raise ValueError(f"a {kind} needs {wanted} finite values, got {self.values}")
        if (kind == PromptKind.TEXT) != bool(self.text):
            raise ValueError(f"text is for a text prompt and no other, got {self.text!r} of {kind}")
        if (kind == PromptKind.MASK) != (self.rle is not None):
            raise ValueError(f"rle is for a mask prompt and no other, got {self.rle} of a {kind}")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "values", values)

    @classmethod
    def point(cls, x: float, y: float, *, is_positive: bool = True) -> Self:
        """Return a click."""
        return cls(PromptKind.POINT, (x, y), is_positive)

    @classmethod
    def box(cls, x0: float, y0: float, x1: float, y1: float) -> Self:
        """Return a box."""
        return cls(PromptKind.BOX, (x0, y0, x1, y1))

    @classmethod
    def mask(cls, rle: Mapping[str, Any]) -> Self:
        """Return a mask that the model began with."""
        return cls(PromptKind.MASK, rle=rle)

    @classmethod
    def words(cls, text: str) -> Self:
        """Return a text prompt."""
        return cls(PromptKind.TEXT, text=text)

    @classmethod
    def seed(cls, x: float, y: float) -> Self:
        """Return a point that was chosen without a person."""
        return cls(PromptKind.SEED, (x, y))


class ImageSource(NamedTuple):
    """A picture to be added: a file, or one plane of a stack.

    ``group`` names pictures that must stay on one side of a split; None leaves it to the store.
    """

    path: Path
    plane: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class ImageRecord:
    """A picture that the store knows.

    Attributes
    ----------
    image_id : str
        Follows from the content of the file, so that it is the same in every store.
    path : Path
        Absolute.
    plane : int or None
        Which plane of a stack.
    sha256 : str
        Of the file.
    pixels_sha256 : str
        Of type, shape and values of the pixels; the same picture in another format has the same.
    size_hw : (int, int)
    group : str
        Pictures of one group are never divided between the splits.
    split : Split or None
        None before :meth:`LabelStore.assign_splits`.
    is_complete : bool
        Whether every visible object is labelled; if not, unlabelled is not background.
    added_at : datetime
        UTC.
    """

    image_id: str
    path: Path
    plane: int | None
    sha256: str
    pixels_sha256: str
    size_hw: tuple[int, int]
    group: str
    split: Split | None
    is_complete: bool
    added_at: datetime

    @property
    def name(self) -> str:
        """Name of the file, and the plane where there is one, for people."""
        return self.path.name if self.plane is None else f"{self.path.name}:{self.plane}"


@dataclass(frozen=True)
class LabelledObject:
    """One object of a picture.

    Parameters
    ----------
    image_id : str
        The picture.
    rle : mapping
        COCO RLE of its whole mask; masks may overlap.
    object_id : str
        A new one by default.
    class_name : str
    prompts : tuple of PromptEvent
        What the mask was made with, in order.
    author : str
        Who made or confirmed it; empty where nobody did.
    created_at : datetime
        UTC, now by default.
    seconds : float or None
        Of a person's time.
    model_id : str or None
        The model that made the mask.
    stage : Stage
    review : ReviewState
    score : float or None
        The model's predicted IoU, or whatever ranks objects.
    is_crowd : bool
        A region of many objects that nobody told apart (COCO's ``iscrowd``), or that nobody can
        judge: neither object nor background.
    extra : mapping
        What formats carry beside this, such as ``stability_score``; ready for JSON.

    Raises
    ------
    ValueError
        If the mask is no RLE of ``[height, width]`` and ``counts``, a number is out of its range,
        or the time has no zone.
    """

    image_id: str
    rle: Mapping[str, Any]
    object_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    class_name: str = "object"
    prompts: tuple[PromptEvent, ...] = ()
    author: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float | None = None
    model_id: str | None = None
    stage: Stage = Stage.ASSISTED_MANUAL
    review: ReviewState = ReviewState.PROPOSED
    score: float | None = None
    is_crowd: bool = False
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check what can be checked without the picture."""
        object.__setattr__(self, "stage", _member(Stage, self.stage, "stage"))
        object.__setattr__(self, "review", _member(ReviewState, self.review, "review"))
        object.__setattr__(self, "prompts", tuple(self.prompts))
        if not {"size", "counts"} <= set(self.rle):
            raise ValueError(f"rle must have 'size' and 'counts', got {sorted(self.rle)}")
        if not self.object_id or not self.class_name:
            raise ValueError("object_id and class_name must not be empty")
        if self.created_at.tzinfo is None:
            raise ValueError(f"created_at must have a time zone, got {self.created_at}")
        if self.seconds is not None and not 0 <= self.seconds < float("inf"):
            raise ValueError(f"seconds must be 0 or more, got {self.seconds}")
        if self.score is not None and not np.isfinite(self.score):
            raise ValueError(f"score must be finite or None, got {self.score}")

    @classmethod
    def of_mask(cls, image_id: str, mask: BoolArray, **others: Any) -> Self:  # noqa: ANN401
        """Return an object with a mask of shape (H, W), bool; ``others`` are its other fields."""
        return cls(image_id, encode_mask(mask), **others)

    def mask(self) -> BoolArray:
        """Return the whole mask, shape (H, W)."""
        return decode_mask(self.rle)


@dataclass(frozen=True)
class Review:
    """One entry of an object's history.

    Attributes
    ----------
    object_id : str
    review : ReviewState
        What it was then.
    author : str
    reviewed_at : datetime
        UTC.
    seconds : float or None
        Of a person's time, this time.
    """

    object_id: str
    review: ReviewState
    author: str
    reviewed_at: datetime
    seconds: float | None


class PaintedObjects(NamedTuple):
    """A label image, and which object each label is: ``labels == i + 1`` is ``objects[i]``."""

    labels: NDArray[np.int32]
    objects: tuple[LabelledObject, ...]


def _member(kind: type[StrEnum], value: str, name: str) -> Any:  # noqa: ANN401
    """Return a member of an enumeration, or say which there are."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(repr(str(one)) for one in kind)
        raise ValueError(f"{name} must be one of {known}, got {value!r}") from error
