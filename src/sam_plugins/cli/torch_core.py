"""A loaded model behind the commands: the only module of the command line that imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_plugins.cli.core import Found, Progress, PromptChoice
from sam_plugins.model.inference.automatic import segment
from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.predict import Model, encode_image, load_model, predict_masks
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.weights.paths import embeddings_directory

AS_IT_IS = (0, 255)
"""Limits that change nothing: contrast was decided when the file was read."""


@dataclass(frozen=True)
class TorchCore:
    """A model and the cache of its embeddings."""

    model: Model
    cache: EmbeddingCache

    @classmethod
    def load(cls, name_or_path: str, device: str | None) -> TorchCore:
        """Load a model by name or file onto a device (the best one by default)."""
        model = (
            load_model(name_or_path) if device is None else load_model(name_or_path, device=device)
        )
        return cls(model, EmbeddingCache(embeddings_directory()))

    @property
    def model_id(self) -> str:
        """Name and digest of the weights."""
        return self.model.model_id

    def automatic(self, rgb: npt.NDArray[np.uint8], mode: str, progress: Progress | None) -> Found:
        """Return all objects of a picture."""
        found = segment(rgb, self.model, mode=mode, limits=AS_IT_IS, progress=progress)
        return Found(found.labels, found.scores, found.points_xy)

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        """Return the prompted objects of a picture, each by its most confident mask."""
        key = embedding_key(rgb, self.model.preprocessing, self.model_id)
        embedding = self.cache.get_or_compute(
            key,
            lambda: encode_image(self.model, rgb, limits=AS_IT_IS),
            device=self.model.device,
        )
        prediction = predict_masks(self.model, embedding, as_prompts(prompts))
        best = prediction.iou_predictions.argmax(axis=1)
        each = np.arange(len(best))
        return painted(prediction.masks[each, best], prediction.iou_predictions[each, best])


def as_prompts(choice: PromptChoice) -> Prompts:
    """Return the prompts of the command line as those of the core."""
    points = [*choice.points_xy, *choice.negatives_xy]
    signs = [1] * len(choice.points_xy) + [0] * len(choice.negatives_xy)
    return Prompts(
        points_xy=np.array([points], np.float32) if points else None,
        point_labels=np.array([signs], np.int64) if points else None,
        boxes_xyxy=np.array(choice.boxes_xyxy, np.float32) if choice.boxes_xyxy else None,
    )


def painted(masks: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> Found:
    """Return masks of shape (N, H, W) as one label image, where the more confident one wins."""
    labels = np.zeros(masks.shape[1:], np.int32)
    for index in np.argsort(scores, kind="stable"):
        labels[masks[index]] = index + 1
    return Found(labels, scores)
