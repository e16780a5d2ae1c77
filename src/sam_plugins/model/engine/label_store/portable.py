"""What our exports say about objects and pictures beyond what a format has words for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sam_plugins.model.engine.label_store.importing import ImportOptions, object_id_of
from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    LabelledObject,
    PromptEvent,
    Stage,
)
from sam_plugins.model.io.rle import compress

KEY = "sam_plugins"
"""Under which it stands beside the words of the format."""


_DESCRIBED = {one.name for one in dataclasses.fields(LabelledObject)} - {
    "image_id",
    "rle",
    "class_name",
}


def describe_object(one: LabelledObject) -> dict[str, Any]:
    """Return all fields of an object but picture, mask and class, ready for JSON."""
    return {
        "object_id": one.object_id,
        "prompts": [_described(prompt) for prompt in one.prompts],
        "author": one.author,
        "created_at": one.created_at.isoformat(),
        "seconds": one.seconds,
        "model_id": one.model_id,
        "stage": str(one.stage),
        "review": str(one.review),
        "score": one.score,
        "is_crowd": one.is_crowd,
        "extra": dict(one.extra),
    }


def describe_image(record: ImageRecord) -> dict[str, Any]:
    """Return what the store knows of a picture beside its file, ready for JSON."""
    return {
        "image_id": record.image_id,
        "plane": record.plane,
        "group": record.group,
        "split": None if record.split is None else str(record.split),
        "is_complete": record.is_complete,
    }


def restored_object(
    image_id: str,
    rle: Mapping[str, Any],
    class_name: str,
    described: Mapping[str, Any] | None,
    options: ImportOptions,
    **others: Any,  # noqa: ANN401
) -> LabelledObject:
    """Return an imported object.

    Parameters
    ----------
    image_id, rle, class_name
        Of the object.
    described : mapping or None
        As :func:`describe_object` returns it, where the file has it.
    options : ImportOptions
    **others
        Fields that the format has words for; what ``described`` says goes before them.

    Raises
    ------
    ValueError
        If a value is impossible.
    """
    rle = compress(rle)
    # a later version may say more
    known = {key: value for key, value in (described or {}).items() if key in _DESCRIBED}
    fields: dict[str, Any] = {
        "object_id": object_id_of(image_id, rle, class_name),
        "author": options.author,
        "review": options.review,
        "stage": Stage.IMPORTED,
    }
    fields |= {key: value for key, value in others.items() if value is not None}
    fields |= known
    if "prompts" in known:
        fields["prompts"] = tuple(_prompt(one) for one in known["prompts"])
    if "created_at" in known:
        fields["created_at"] = datetime.fromisoformat(known["created_at"])
    return LabelledObject(image_id, rle, class_name=class_name, **fields)


def _described(prompt: PromptEvent) -> dict[str, Any]:
    """Return a prompt, ready for JSON; what is not said is as by default."""
    said: dict[str, Any] = {"kind": str(prompt.kind)}
    if prompt.values:
        said["values"] = list(prompt.values)
    if not prompt.is_positive:
        said["is_positive"] = False
    if prompt.text:
        said["text"] = prompt.text
    if prompt.rle is not None:
        said["rle"] = dict(prompt.rle)
    return said


def _prompt(said: Mapping[str, Any]) -> PromptEvent:
    """Return the prompt that :func:`_described` described."""
    return PromptEvent(**{**said, "values": tuple(said.get("values", ()))})
