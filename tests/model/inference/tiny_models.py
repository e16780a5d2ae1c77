"""Small models with seeded weights: their masks mean nothing, but all their paths are real."""

from __future__ import annotations

import torch

from sam_plugins.model.inference.loading import Model
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
    VitConfig,
)

TINY_PYRAMID = SamConfig(
    image_encoder=PyramidConfig(
        stage_dims=(8, 12, 16, 20),
        stage_depths=(1, 1, 1, 1),
        context_depth=1,
        skip_dims=(8, 8),
        image_size=128,
        out_dim=32,
    ),
    prompt_encoder=PromptEncoderConfig(prompt_map_dims=(8, 8)),
    mask_decoder=MaskDecoderConfig(
        num_heads=4,
        mlp_dim=32,
        upscale_dims=(16, 8),
        iou_head_hidden_dim=16,
        uses_skips=True,
        scores_masks=True,
    ),
    instance_decoder=InstanceDecoderConfig(hidden_dim=8),
    preprocessing=Preprocessing(
        min_long_side=96, max_long_side=128, max_enlargement=2.0, pad_to=32
    ),
)
"""The shipped model's architecture, small: non-square input, skips, an instance decoder."""

TINY_VIT = SamConfig(
    image_encoder=VitConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        global_attention_blocks=(1,),
        image_size=128,
        window_size=3,
        out_dim=32,
    ),
    mask_decoder=MaskDecoderConfig(
        num_heads=4, mlp_dim=32, upscale_dims=(16, 8), iou_head_hidden_dim=16
    ),
    preprocessing=Preprocessing(min_long_side=128, max_long_side=128),
)
"""The official architecture, small: a square input, no skips, no instance decoder."""


def make_model(config: SamConfig, name: str, seed: int = 0) -> Model:
    """Build a model with seeded weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_sam(config).eval().requires_grad_(requires_grad=False)
    return Model(network, f"{name}-{seed:012d}")
