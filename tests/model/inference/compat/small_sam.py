"""A small official model whose masks differ from point to point, and a comparison of results."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

DIM = 64


def small_official(official: ModuleType, side: int = 256, seed: int = 0) -> Any:
    """Build segment_anything's classes with small numbers and random weights."""
    modeling = official.modeling
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = modeling.Sam(
            image_encoder=modeling.ImageEncoderViT(
                img_size=side,
                embed_dim=32,
                depth=2,
                num_heads=2,
                global_attn_indexes=(1,),
                norm_layer=lambda dim: nn.LayerNorm(dim, eps=1e-6),
                qkv_bias=True,
                use_rel_pos=True,
                window_size=5,
                out_chans=DIM,
            ),
            prompt_encoder=modeling.PromptEncoder(
                embed_dim=DIM,
                image_embedding_size=(side // 16, side // 16),
                input_image_size=(side, side),
                mask_in_chans=16,
            ),
            mask_decoder=modeling.MaskDecoder(
                num_multimask_outputs=3,
                transformer=modeling.TwoWayTransformer(
                    depth=2, embedding_dim=DIM, mlp_dim=64, num_heads=8
                ),
                transformer_dim=DIM,
                iou_head_hidden_dim=32,
            ),
        )
    make_selective(sam, seed)
    return sam.eval()


def make_selective(sam: Any, seed: int) -> None:
    """Set weights so that masks are a few blobs, others for every point, with a high predicted IoU.

    Fresh weights give the same mask of the whole picture everywhere. Here the positions of the
    image encoder are bumps, the features of the last layer are centred so that each is active at a
    few places only, and the weights of these features vary around zero from point to point.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    grid = encoder.img_size // 16
    cells = 16 * (torch.arange(grid) + 0.5) / grid
    centres = 16 * torch.rand(2, encoder.pos_embed.shape[-1], generator=generator)
    down, across = (torch.exp(-((cells[:, None] - c) ** 2) / 2) for c in centres)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        encoder.pos_embed.add_(6 * down[:, None] * across[None])
        upscale, heads = decoder.output_upscaling[3], decoder.output_hypernetworks_mlps
        features, *weights = _outputs(sam, [upscale, *heads])
        mean, spread = features.mean((0, 2, 3)), features.std((0, 2, 3))
        upscale.weight.div_(spread[:, None, None])
        upscale.bias.sub_(mean).div_(spread).sub_(2.5)
        upscale.weight[:, 0], upscale.bias[0] = 0, 3  # a constant, to lie below zero elsewhere
        for head, outputs in zip(heads, weights, strict=True):
            last = head.layers[-1]
            gain = 200 / outputs.std(0)
            last.weight.mul_(gain[:, None])
            last.bias.sub_(outputs.mean(0)).mul_(gain)
            last.weight[0], last.bias[0] = 0, -12
        (ious,) = _outputs(sam, [decoder.iou_prediction_head])
        last = decoder.iou_prediction_head.layers[-1]
        gain = 0.05 / ious.std(0)
        last.weight.mul_(gain[:, None])
        last.bias.sub_(ious.mean(0)).mul_(gain).add_(0.9)


def _outputs(sam: Any, modules: list[nn.Module]) -> list[torch.Tensor]:
    """Return what modules give for a grid of points in a picture of noise."""
    seen: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda *args: seen.append(args[2])) for module in modules]
    side = sam.image_encoder.img_size
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    places = torch.arange(8, side, side // 6, dtype=torch.float32)
    points = torch.cartesian_prod(places, places)[:, None]
    sparse, dense = sam.prompt_encoder(
        points=(points, torch.ones(points.shape[:2])), boxes=None, masks=None
    )
    sam.mask_decoder.predict_masks(
        image_embeddings=sam.image_encoder(sam.preprocess(picture)),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    for hook in hooks:
        hook.remove()
    return seen


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    """Compare results: keys, types, shapes, numbers, and all but a few pixels of masks."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key], tolerance)
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(theirs, np.ndarray | torch.Tensor):
        assert type(ours) is type(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        mine, other = (
            one.detach().numpy() if isinstance(one, torch.Tensor) else one for one in (ours, theirs)
        )
        if mine.dtype == bool:
            assert (mine != other).mean() <= tolerance
        else:
            scale = max(1.0, float(np.abs(other).max(initial=0)))
            assert np.abs(mine - other).max(initial=0) <= tolerance * scale
    elif isinstance(theirs, float):
        assert isinstance(ours, float)
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert ours == theirs
