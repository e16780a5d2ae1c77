"""TinyViT in the order of operations of MobileSAM's code, which is on no package index.

The same weights and the same answers: maps in PyTorch's usual layout, normalisation after every
convolution, and attention of all windows at once.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.image_encoder_tiny_vit import (
    ConvNorm,
    TinyVitImageEncoder,
    WindowAttention,
)


class _Plain(nn.Module):
    """A TinyViT whose layers go the long way."""

    def __init__(self, encoder: TinyVitImageEncoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        for layer in self.encoder.modules():
            if isinstance(layer, ConvNorm):
                layer.forward = _convolve.__get__(layer)
            elif isinstance(layer, WindowAttention):
                layer.forward = _attend.__get__(layer)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, D, h, w)."""
        x = self.encoder.patch_embed(images)
        for stage in self.encoder.layers:
            x = stage(x)
        embedding: Tensor = self.encoder.neck(x)
        return embedding


def _convolve(self: ConvNorm, x: Tensor) -> Tensor:
    return nn.Sequential.forward(self, x)


def _attend(self: WindowAttention, x: Tensor) -> Tensor:
    qkv = self.qkv(self.norm(x)).unflatten(-1, (self.num_heads, 3, -1))
    q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    weights = (scores + self.attention_biases[:, self.bias_index]).softmax(dim=-1)
    out: Tensor = self.proj((weights @ v).transpose(1, 2).flatten(2))
    return out


def plain_tiny_vit(encoder: nn.Module) -> nn.Module:
    """Return a copy of our encoder that computes as MobileSAM's does."""
    assert isinstance(encoder, TinyVitImageEncoder)
    return _Plain(encoder).eval()
