"""A small model of random weights that can do everything, for tests of what asks a model."""

from __future__ import annotations

from pathlib import Path

import torch

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
)
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

SMALL = SamConfig(
    PyramidConfig(
        stage_dims=(8, 8, 16, 16), stage_depths=(1, 1, 1, 1), context_depth=1, skip_dims=(8, 8),
        out_dim=16,
    ),
    PromptEncoderConfig(prompt_map_dims=(8, 8)),
    MaskDecoderConfig(
        num_heads=2, mlp_dim=16, upscale_dims=(8, 8), iou_head_hidden_dim=8, uses_skips=True,
        scores_masks=True,
    ),
    InstanceDecoderConfig(8),
    Preprocessing(min_long_side=64, max_long_side=128, max_enlargement=2.0, pad_to=32),
)  # fmt: skip


def write_small_model(path: Path, seed: int = 0) -> Path:
    """Write the model with weights of a seed."""
    torch.manual_seed(seed)
    passport = Passport(name="small", config=SMALL, version="1", licence="Apache-2.0")
    return save_model_file(path, build_sam(SMALL).state_dict(), passport)
