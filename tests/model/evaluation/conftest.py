"""Labelled pictures without files, and a model that knows the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.labelled_sets import SIZE_HW, discs, picture_of

from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.io.labelled import LabelledImage


@pytest.fixture
def labels() -> np.ndarray:
    """Three discs, 48 x 64 pixels."""
    return discs()


@pytest.fixture
def image_of() -> Callable[..., LabelledImage]:
    """Make a labelled picture, bright on dark, without files."""

    def make(labels: np.ndarray, **more: Any) -> LabelledImage:
        return LabelledImage(id="x", image=picture_of(labels), labels=labels, set_name="s", **more)

    return make


@pytest.fixture
def truth_model() -> type[TruthModel]:
    """Make models that know the answers."""
    return TruthModel


@dataclass(frozen=True)
class TruthEmbedding:
    """Sizes as SAM would have them at a long side of 128, and the picture itself."""

    image: np.ndarray
    original_size_hw: tuple[int, int] = SIZE_HW
    input_size_hw: tuple[int, int] = (96, 128)
    padded_size_hw: tuple[int, int] = (128, 128)


class TruthModel:
    """Answers with the bright blob under the prompt: bad, exact and huge mask, in this order.

    ``confidence`` are the predicted IoU of the three masks.
    """

    def __init__(self, confidence: tuple[float, float, float] = (0.3, 0.9, 0.5)) -> None:
        self.confidence = confidence
        self.encoded = 0
        self.chunks: list[int] = []

    def encode(self, image: np.ndarray) -> TruthEmbedding:
        """Count and pass on."""
        assert torch.is_inference_mode_enabled()
        self.encoded += 1
        return TruthEmbedding(image)

    def predict_points(self, embedding: TruthEmbedding, points_xy: np.ndarray) -> LowResMasks:
        """Return three masks for each point."""
        self.chunks.append(len(points_xy))
        exact = torch.stack([self._blob(embedding, int(x), int(y)) for x, y in points_xy])
        logits = torch.stack([torch.full_like(exact, -5.0), exact, torch.full_like(exact, 5.0)], 1)
        return LowResMasks(logits, torch.tensor([self.confidence] * len(points_xy)))

    def predict_boxes(self, embedding: TruthEmbedding, boxes_xyxy: np.ndarray) -> LowResMasks:
        """Return one mask for each box."""
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        exact = torch.stack([self._blob(embedding, int(x), int(y)) for x, y in centres])
        return LowResMasks(exact[:, None], torch.full((len(boxes_xyxy), 1), 0.75))

    def _blob(self, embedding: TruthEmbedding, x: int, y: int) -> torch.Tensor:
        """Return logits at twice the picture's resolution, padded to a square."""
        from scipy import ndimage

        pieces, _ = ndimage.label(embedding.image > 100)
        signed = np.where((pieces == pieces[y, x]) & (pieces > 0), 1.0, -1.0)
        doubled = np.kron(signed, np.ones((2, 2)))
        logits = np.full((128, 128), -1.0, np.float32)
        logits[: doubled.shape[0], : doubled.shape[1]] = doubled
        return torch.from_numpy(logits)
