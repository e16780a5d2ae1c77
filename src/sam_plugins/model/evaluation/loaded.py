"""A loaded model behind the protocols of the evaluation: what people get is what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.inference.automatic import Mode, SegmentOptions, segment
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import decode_prompts, encode_image
from sam_plugins.model.inference.types import ImageEmbedding, Prompts


@dataclass(frozen=True)
class LoadedModel:
    """Ask a loaded model as the evaluation does.

    It is a :class:`~sam_plugins.model.evaluation.single_point.PromptableModel`.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`.
    """

    model: Model

    def encode(self, image: NDArray[Any]) -> ImageEmbedding:
        """Return the embedding of a picture as it comes from a file."""
        return encode_image(self.model, image)

    def predict_points(
        self, embedding: ImageEmbedding, points_xy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return three masks for each of N points of shape (N, 2)."""
        return self._answer(embedding, Prompts.single_points(points_xy), multimask=True)

    def predict_boxes(
        self, embedding: ImageEmbedding, boxes_xyxy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return one mask for each of N boxes of shape (N, 4)."""
        return self._answer(embedding, Prompts(boxes_xyxy=boxes_xyxy), multimask=False)

    def _answer(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> LowResMasks:
        """Decode some at a time and join the answers."""
        answers = list(decode_prompts(self.model, embedding, prompts, multimask=multimask))
        return LowResMasks(
            torch.cat([answer.logits for answer in answers]),
            torch.cat([answer.iou_predictions for answer in answers]),
        )


@dataclass(frozen=True)
class AutomaticSegmenter:
    """Segment whole pictures with a loaded model.

    It is a :data:`~sam_plugins.model.evaluation.automatic.Segmenter`.

    Parameters
    ----------
    model : Model
    mode : {"auto", "grid"}
    options : SegmentOptions, optional
        Those of the mode by default.
    """

    model: Model
    mode: Mode = "auto"
    options: SegmentOptions | None = None

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the label image of a picture as it comes from a file."""
        return segment(image, self.model, mode=self.mode, options=self.options).labels
