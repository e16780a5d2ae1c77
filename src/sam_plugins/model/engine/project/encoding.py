"""Pictures of a project as a model sees them, each encoded once per model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.weights.paths import embeddings_directory


def usual_cache() -> EmbeddingCache:
    """Return the cache that all front ends share."""
    return EmbeddingCache(embeddings_directory())


def encode_cached(model: Model, pixels: NDArray[Any], cache: EmbeddingCache) -> ImageEmbedding:
    """Return the embedding of a picture as it comes from a file."""
    rgb: NDArray[np.uint8] = to_rgb(pixels)
    return cache.get_or_compute(
        embedding_key(rgb, model.preprocessing, model.model_id),
        lambda: encode_rgb(model, rgb),
        device=model.device,
    )
