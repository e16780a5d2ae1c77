"""Pictures of a project as a model sees them, each encoded once per model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.weights.paths import embeddings_directory


def usual_cache() -> EmbeddingCache:
    """Return the cache that all front ends share."""
    return EmbeddingCache(embeddings_directory())


def encode_cached(model: Model, rgb: NDArray[np.uint8], cache: EmbeddingCache) -> ImageEmbedding:
    """Return the embedding of what a model sees of a picture, or of a window of it.

    ``rgb`` comes from :func:`~sam_plugins.to_rgb`: no contrast is set.
    """
    return cache.get_or_compute(
        embedding_key(rgb, model.preprocessing, model.model_id),
        lambda: encode_rgb(model, rgb),
        device=model.device,
    )
