"""A few generated pictures, and a network that trains in seconds."""

from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
)
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.synthetic import synthetic_picture


@pytest.fixture(scope="session")
def pictures() -> list[TrainingPicture]:
    """Six pictures of two sets."""
    return [
        TrainingPicture(
            set_name="even" if seed % 2 == 0 else "odd",
            id=str(seed),
            rgb=one.rgb,
            labels=one.labels,
        )
        for seed in range(6)
        for one in [synthetic_picture(np.random.default_rng(seed), 128)]
    ]


@pytest.fixture
def tiny_config() -> SamConfig:
    """The shipped architecture, small."""
    return SamConfig(
        image_encoder=PyramidConfig(
            stage_dims=(16, 24, 32, 32),
            stage_depths=(1, 1, 1, 1),
            context_depth=1,
            skip_dims=(16, 16),
            image_size=128,
            out_dim=32,
        ),
        prompt_encoder=PromptEncoderConfig(prompt_map_dims=(16, 8)),
        mask_decoder=MaskDecoderConfig(
            num_heads=4,
            mlp_dim=64,
            upscale_dims=(16, 16),
            iou_head_hidden_dim=16,
            uses_skips=True,
            scores_masks=True,
        ),
        instance_decoder=InstanceDecoderConfig(hidden_dim=16),
        preprocessing=Preprocessing(min_long_side=96, max_long_side=128, pad_to=32),
    )
