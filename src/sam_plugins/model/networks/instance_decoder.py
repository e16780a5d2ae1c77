"""A light dense head that says where objects are, so that prompts can be made without a user.

The maps are those of distance-based instance segmentation (for instance micro-sam's decoder, Archit
et al. 2025): foreground, closeness to the object's centre, and distance to its border. Their
maxima become point prompts: automatic segmentation stays promptable segmentation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.layers import LayerNorm2d


class InstanceMaps(NamedTuple):
    """Logits of three maps, each (B, 1, H / 4, W / 4) for an input of H x W.

    Attributes
    ----------
    foreground : Tensor
        Inside any object.
    centre : Tensor
        1 at the innermost point of every object, falling off smoothly.
    border : Tensor
        Distance to the border of the object, 1 where it is largest, 0 outside.
    """

    foreground: Tensor
    centre: Tensor
    border: Tensor


class InstanceDecoder(nn.Module):
    """Convolutions on the finest map of a pyramid, or on an embedding that is upscaled first.

    Parameters
    ----------
    dim : int
        Channels of the image embedding.
    skip_dims : tuple of int
        Channels of the encoder's finer maps, coarse to fine; empty if it has none.
    hidden_dim : int
    """

    def __init__(self, dim: int, skip_dims: tuple[int, ...], hidden_dim: int) -> None:
        super().__init__()
        self.uses_skips = bool(skip_dims)
        self.enter: nn.Module
        if self.uses_skips:
            self.enter = nn.Conv2d(skip_dims[-1], hidden_dim, kernel_size=3, padding=1)
        else:
            self.enter = nn.Sequential(
                nn.ConvTranspose2d(dim, 2 * hidden_dim, kernel_size=2, stride=2),
                LayerNorm2d(2 * hidden_dim),
                nn.GELU(),
                nn.ConvTranspose2d(2 * hidden_dim, hidden_dim, kernel_size=2, stride=2),
            )
        self.middle = nn.Conv2d(hidden_dim, hidden_dim, kernel_size=3, padding=1)
        self.leave = nn.Conv2d(hidden_dim, len(InstanceMaps._fields), kernel_size=1)

    def forward(self, features: ImageFeatures) -> InstanceMaps:
        """Predict the maps of B images."""
        x = features.skips[-1] if self.uses_skips else features.embedding
        x = self.enter(x.contiguous(memory_format=torch.channels_last))
        x = x + self.middle(functional.relu(x))
        maps = self.leave(functional.relu(x)).split(1, dim=1)
        return InstanceMaps(*maps)
