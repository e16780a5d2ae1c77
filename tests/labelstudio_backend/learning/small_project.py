"""A project of drawn pictures with a tiny model, which trains in seconds."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.labelstudio_backend.learning.helpers import KEY, annotation, brush, event
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.learning.training import TrainingSettings
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.training.batches import CropSize
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

TASKS = 12
QUICK = FineTuningOptions(
    steps=4, rounds=2, learning_rate=1e-2, crop_sizes=(CropSize(64, 2, 3, 1.0),),
    precision="float32", save_every_seconds=0.0,
)  # fmt: skip


def tiny_parent(folder: Path) -> Path:
    """A file of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "tiny.safetensors").exists():
        return folder / "tiny.safetensors"
    network = make_model(TINY_PYRAMID, "tiny").network
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    return save_model_file(folder / "tiny.safetensors", network.state_dict(), passport)


def drawn(_key: str, task: int, _url: str) -> bytes:
    """The picture of a task: three discs, brighter from task to task."""
    pixels = picture_of(discs(task % 3))
    pixels[0, 0] = task
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def annotated(task: int) -> dict[str, Any]:
    """The event of a person who outlined the discs of a task."""
    labels = discs(task % 3)
    result = [
        brush(f"task{task:06d}-{label}", labels == label) for label in np.unique(labels[labels > 0])
    ]
    return event("ANNOTATION_CREATED", annotation(task, task, result))


def small_settings(
    folder: Path, options: FineTuningOptions = QUICK, **settings: Any
) -> LearningSettings:
    """The settings of a backend that begins with the tiny model."""
    return LearningSettings(
        folder=folder / "state",
        model=str(tiny_parent(folder)),
        training=TrainingSettings(options=options, device="cpu", threads=1, niceness=1),
        **settings,
    )


def small_learning(
    folder: Path, options: FineTuningOptions = QUICK, **settings: Any
) -> BackendLearning:
    """The learning of such a backend."""
    return BackendLearning(small_settings(folder, options, **settings), fetch=drawn)


def trainings(learning: BackendLearning) -> list[dict[str, Any]]:
    """The trainings of the project, the newest first."""
    found: list[dict[str, Any]] = learning.status()["projects"][KEY]["trainings"]
    return found


def until(learning: BackendLearning, condition: Callable[[], bool], seconds: float = 240) -> None:
    """Let a backend work until something is so."""
    end = time.monotonic() + seconds
    while True:
        learning.work()
        if condition():
            return
        assert time.monotonic() < end, learning.status()
        time.sleep(0.2)
