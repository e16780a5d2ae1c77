"""Small embeddings, and when two of them are the same."""

from __future__ import annotations

from dataclasses import fields

import torch

from sam_plugins.model.inference.types import ImageEmbedding


def embedding(seed: int = 0) -> ImageEmbedding:
    generator = torch.Generator().manual_seed(seed)
    return ImageEmbedding(
        features=torch.randn(1, 8, 16, 16, generator=generator),
        skips=(torch.randn(1, 4, 32, 32, generator=generator),),
        original_size_hw=(100, 200),
        input_size_hw=(128, 256),
        padded_size_hw=(128, 256),
        model_id="tiny-000000000000",
    )


def equal(first: ImageEmbedding, second: ImageEmbedding) -> bool:
    return (
        torch.equal(first.features, second.features)
        and first.features.dtype == second.features.dtype
        and len(first.skips) == len(second.skips)
        and all(torch.equal(a, b) for a, b in zip(first.skips, second.skips, strict=True))
        and all(
            getattr(first, part.name) == getattr(second, part.name)
            for part in fields(ImageEmbedding)
            if part.name not in {"features", "skips"}
        )
    )
