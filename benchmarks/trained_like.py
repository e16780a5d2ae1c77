"""Random weights that behave more like trained ones where that decides how good bfloat16 is.

Freshly drawn weights are kind to bfloat16: attention is nearly even, and what blocks add up to is
as large in every channel. Trained encoders look at few places and have a few channels a hundred
times as large as the rest. Both are given to the random ones here; figures from them are no figures
of a trained checkpoint, but a harder test than fresh weights.
"""

from __future__ import annotations

import torch
from torch import nn

_SHARPER = 3.0
"""Factor of queries and keys: scores become nine times as large, their softmax peaked."""

_LOUD_CHANNELS = 4
_LOUDNESS = 100.0


@torch.no_grad()
def make_trained_like(encoder: nn.Module) -> nn.Module:
    """Sharpen the attention of a plain ViT, give it positions, and make a few channels loud.

    Parameters
    ----------
    encoder : nn.Module
        Ours or the official one; changed in place and returned.
    """
    generator = torch.Generator().manual_seed(1)

    def noise(tensor: torch.Tensor, scale: float) -> torch.Tensor:
        return scale * torch.randn(tensor.shape, generator=generator)

    encoder.pos_embed.add_(noise(encoder.pos_embed, 0.3))
    encoder.pos_embed[..., :_LOUD_CHANNELS] *= _LOUDNESS
    for block in encoder.blocks:
        width = block.attn.qkv.weight.shape[1]
        block.attn.qkv.weight[: 2 * width] *= _SHARPER
        for positions in (block.attn.rel_pos_h, block.attn.rel_pos_w):
            positions.add_(noise(positions, 0.2))
        for norm in (block.norm1, block.norm2):
            norm.weight.mul_(1 + noise(norm.weight, 0.3))
    return encoder
