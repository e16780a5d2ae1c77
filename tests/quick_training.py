"""Fine-tuning that takes no time: what tests of its surroundings need."""

from __future__ import annotations

import pytest

from sam_plugins.model.engine import fine_tuning, learner
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.training.batches import BatchOptions, CropSize


def make_training_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fine-tuning learn from small crops, with one answer an object and seldom two."""

    def options(config: SamConfig) -> BatchOptions:
        is_pyramid = isinstance(config.image_encoder, PyramidConfig)
        pixels = 64 if is_pyramid else config.image_encoder.image_size
        return BatchOptions((CropSize(pixels, 2, 3, 1.0),), 0.0, {}, 1.0)

    monkeypatch.setattr(fine_tuning, "_batch_options", options)
    monkeypatch.setattr(learner, "SESSIONS", (0.8, 0.2))
