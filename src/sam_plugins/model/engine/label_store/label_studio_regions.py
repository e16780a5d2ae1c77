"""Objects of the store as brush regions of Label Studio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam_plugins.model.engine.label_store.types import (
    ImageRecord,
    LabelledObject,
    ReviewState,
    Stage,
)
from sam_plugins.model.io.brush_rle import encode_brush


@dataclass(frozen=True, kw_only=True)
class LabelStudioNames:
    """Names in a labelling interface.

    Parameters
    ----------
    data_key : str
        Of a task's data that names the picture: ``image`` where the interface says ``$image``.
    from_name, to_name : str
        ``name`` of the BrushLabels tag and of the Image tag.
    """

    data_key: str = "image"
    from_name: str = "label"
    to_name: str = "image"


def region_of(one: LabelledObject, record: ImageRecord, names: LabelStudioNames) -> dict[str, Any]:
    """Return an object as a brush region."""
    region: dict[str, Any] = {
        "id": one.object_id,
        "type": "brushlabels",
        "from_name": names.from_name,
        "to_name": names.to_name,
        "original_width": record.size_hw[1],
        "original_height": record.size_hw[0],
        "image_rotation": 0,
        "origin": _origin(one),
        "value": {
            "format": "rle",
            "rle": encode_brush(one.mask()),
            "brushlabels": [one.class_name],
        },
    }
    if one.score is not None:
        region["score"] = one.score
    return region


def _origin(one: LabelledObject) -> str:
    """Return where Label Studio would say that a region comes from."""
    if one.model_id is None or one.stage == Stage.IMPORTED:
        return "manual"
    return "prediction-changed" if one.review == ReviewState.CORRECTED else "prediction"
