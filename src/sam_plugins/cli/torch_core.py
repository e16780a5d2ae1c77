"""A loaded model behind the commands: the only module of the command line that imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_plugins.cli.core import Found, Progress, PromptChoice
from sam_plugins.model.inference.automatic import require_instance_decoder, segment_embedding
from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.predict import Model, encode_rgb, load_model, predict_masks
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts
from sam_plugins.model.weights.paths import embeddings_directory


@dataclass(frozen=True)
class TorchCore:
    """A model and the cache of its embeddings."""

    model: Model
    cache: EmbeddingCache

    @classmethod
    def load(cls, name_or_path: str, device: str | None) -> TorchCore:
        """Load a model by name or file onto a device; by default the first CUDA GPU or the CPU."""
        return cls(load_model(name_or_path, device=device), EmbeddingCache(embeddings_directory()))

    @property
    def model_id(self) -> str:
        """Name and digest of the weights."""
        return self.model.model_id

    def automatic(self, rgb: npt.NDArray[np.uint8], mode: str, progress: Progress | None) -> Found:
        """Return all objects of a picture."""
        if mode == "auto":
            require_instance_decoder(self.model)  # before the slow part
        found = segment_embedding(self.model, self._encoded(rgb), mode=mode, progress=progress)
        return Found(found.labels, found.scores, found.points_xy)

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        """Return the prompted objects of a picture, each by one mask."""
        answer = predict_masks(self.model, self._encoded(rgb), as_prompts(prompts))
        return painted(answer.best() if prompts.mask is None else answer.choose([prompts.mask - 1]))

    def _encoded(self, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        """Return the embedding of what the model sees, which was decided when the file was read."""
        return self.cache.get_or_compute(
            embedding_key(rgb, self.model.preprocessing, self.model_id),
            lambda: encode_rgb(self.model, rgb),
            device=self.model.device,
        )


def as_prompts(choice: PromptChoice) -> Prompts:
    """Return the prompts of the command line as those of the core."""
    points = [*choice.points_xy, *choice.negatives_xy]
    signs = [1] * len(choice.points_xy) + [0] * len(choice.negatives_xy)
    return Prompts(
        points_xy=np.array([points], np.float32) if points else None,
        point_labels=np.array([signs], np.int64) if points else None,
        boxes_xyxy=np.array(choice.boxes_xyxy, np.float32) if choice.boxes_xyxy else None,
    )


def painted(answer: MaskPrediction) -> Found:
    """Return the one mask of each object as a label image, where the more confident one wins."""
    scores = answer.iou_predictions[:, 0]
    labels = np.zeros(answer.original_size_hw, np.int32)
    for index in np.argsort(scores, kind="stable"):
        window, mask = answer.window_mask(index)
        labels[window][mask] = index + 1
    return Found(labels, scores)
