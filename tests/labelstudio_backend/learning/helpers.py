"""Events as Label Studio 1.23.2 sends them, pictures, and a backend's state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.model.engine.label_store import LabelledObject
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.io.brush_rle import encode_brush

SIZE_HW = (24, 32)
CONFIG = (
    '<View><Image name="image" value="$image"/><KeyPointLabels name="kp" toName="image" '
    'smart="true"><Label value="Cell"/></KeyPointLabels><RectangleLabels name="box" '
    'toName="image" smart="true"><Label value="Cell"/></RectangleLabels><BrushLabels '
    'name="label" toName="image"><Label value="Cell"/></BrushLabels></View>'
)
PROJECT = {
    "id": 7,
    "title": "Cells",
    "created_at": "2026-11-28T07:18:11.328660Z",
    "label_config": CONFIG,
    "token": "not-to-be-kept",
}
KEY = "7.1795850291"


def picture(seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, size_hw, np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def fetch(key: str, task: int, url: str) -> bytes:
    """The picture of a URL that ends in a number."""
    return picture(int(url.rpartition("-")[2].partition(".")[0]))


def url_of(task: int) -> str:
    """Where the picture of a task is."""
    return f"/data/upload/7/0a1b2c3d-cell{task}-{task}.png"


def square(y: int, x: int, side: int = 6) -> np.ndarray:
    """A mask."""
    mask = np.zeros(SIZE_HW, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def brush(region: str, mask: np.ndarray, label: str = "Cell") -> dict[str, Any]:
    """A brush region."""
    return {
        "id": region,
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "origin": "manual",
        "value": {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]},
    }


def key_point(region: str) -> dict[str, Any]:
    """A prompt that stayed in the annotation."""
    return {
        "id": region,
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "original_width": 32,
        "original_height": 24,
        "is_positive": True,
        "value": {"x": 10, "y": 10, "width": 0.3, "keypointlabels": ["Cell"]},
    }


def box(region: str) -> dict[str, Any]:
    """A rectangle."""
    return {
        "id": region,
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": 32,
        "original_height": 24,
        "value": {
            "x": 25, "y": 25, "width": 25, "height": 25, "rotation": 0,
            "rectanglelabels": ["Cell"],
        },
    }  # fmt: skip


def annotation(
    number: int, task: int, result: Sequence[Mapping[str, Any]], minute: int = 0, **others: Any
) -> dict[str, Any]:
    """An annotation, changed at some minute."""
    return {
        "id": number,
        "task": task,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "lead_time": 12.0,
        "completed_by": 3,
        "created_at": "2026-11-28T08:00:00.000000Z",
        "updated_at": f"2026-11-28T08:{minute:02d}:00.000000Z",
        **others,
    }


def event(action: str, one: Mapping[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    """A webhook."""
    payload: dict[str, Any] = {"action": action, "project": PROJECT, **others}
    if one is not None:
        payload["annotation"] = one
        payload["task"] = {"id": one["task"], "data": {"image": url_of(one["task"])}, "project": 7}
    return payload


def learning_at(folder: Path, **settings: Any) -> BackendLearning:
    """A backend's learning, without Label Studio."""
    return BackendLearning(LearningSettings(folder=folder, **settings), fetch=fetch)


def told(learning: BackendLearning, *payloads: dict[str, Any]) -> None:
    """Send events and let them be worked on."""
    for payload in payloads:
        learning.on_webhook(payload)
    learning.work()


def stored(learning: BackendLearning) -> list[LabelledObject]:
    """The objects in the label store."""
    folder = learning.status()["projects"][KEY]["folder"]
    with Project.open(folder) as project:
        return project.labels.objects()


def of_config(payload: dict[str, Any], config: str) -> dict[str, Any]:
    """An event of a project with another labelling interface."""
    return {**payload, "project": {**PROJECT, "label_config": config}}


def left_out(learning: BackendLearning) -> dict[str, int]:
    """What the status says of regions that are no objects."""
    return dict(learning.status()["projects"][KEY]["regions_left_out"])
