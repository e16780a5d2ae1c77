"""Small networks, weights that hide nothing, and the measure of agreement."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
    TinyVitConfig,
    VitConfig,
)
from sam_plugins.model.networks.sam import Sam

_DECODER = MaskDecoderConfig(
    num_heads=4, mlp_dim=24, upscale_dims=(16, 8), iou_head_hidden_dim=20, num_multimask_outputs=3
)

SMALL = {
    "vit": SamConfig(
        VitConfig(
            embed_dim=24,
            depth=2,
            num_heads=2,
            global_attention_blocks=(1,),
            image_size=128,
            window_size=3,
            out_dim=32,
        ),
        PromptEncoderConfig(mask_in_dim=8, text_dim=6),
        _DECODER,
    ),
    "tiny_vit": SamConfig(
        TinyVitConfig(
            embed_dims=(8, 16, 24, 32),
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 3, 4),
            window_sizes=(7, 3, 5, 4),
            image_size=128,
            out_dim=32,
        ),
        PromptEncoderConfig(mask_in_dim=8),
        _DECODER,
    ),
    "pyramid": SamConfig(
        PyramidConfig(
            stage_dims=(8, 12, 16, 20),
            stage_depths=(1, 1, 1, 1),
            context_depth=1,
            skip_dims=(10, 6),
            image_size=256,
            out_dim=32,
        ),
        PromptEncoderConfig(prompt_map_dims=(8, 8), text_dim=6),
        MaskDecoderConfig(
            num_heads=4,
            mlp_dim=24,
            upscale_dims=(16, 8),
            iou_head_hidden_dim=20,
            fusion_depth=1,
            uses_skips=True,
            scores_masks=True,
        ),
        InstanceDecoderConfig(hidden_dim=8),
    ),
}
"""All three architectures, small; every path of the published ones is in them."""


def _randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every weight a value that matters.

    Positions, biases and statistics begin trivial, and fresh weights let the picture fade on its
    way through the layers: an error there would drown in what does not depend on the picture.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or "attention_biases" in name or "pos_embed" in name:
                parameter.copy_(0.3 * noise(parameter))
            elif parameter.ndim == 1 and name.endswith("weight"):  # Normalisation.
                parameter.copy_(1 + 0.2 * noise(parameter))
            else:
                parameter.add_(0.1 * noise(parameter))
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                is_transposed = isinstance(layer, nn.ConvTranspose2d)
                fan_in = layer.weight.shape[0] if is_transposed else layer.weight[0].numel()
                gain = 2 if isinstance(layer, nn.Conv2d) else 1
                layer.weight.copy_(math.sqrt(gain / fan_in) * noise(layer.weight))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.fixture(scope="session")
def randomise() -> Callable[..., None]:
    """Fill a network with random weights and statistics, from a seed."""
    return _randomise


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """Relative L2 error of the first tensor, of the same shape as the second."""
    return _relative_error


@pytest.fixture(scope="session")
def small_configs() -> dict[str, SamConfig]:
    """One small network of each kind of image encoder."""
    return SMALL


@pytest.fixture(scope="session", params=SMALL)
def small_sam(request: pytest.FixtureRequest) -> Sam:
    """Each of them with random weights, in evaluation mode; do not change in place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_sam(SMALL[request.param]).eval()
    _randomise(model)
    return model


@pytest.fixture(scope="session")
def pyramid_sam() -> Sam:
    """The one with the shipped model's architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_sam(SMALL["pyramid"]).eval()
    _randomise(model)
    return model
