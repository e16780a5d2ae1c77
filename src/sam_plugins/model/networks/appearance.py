"""What lies under a prompt: features pooled where clicks, boxes and earlier masks are.

A token that only knows where a click is must first find the place through attention at a stride of
16, where a small nucleus is less than a cell. Pooled at a stride of 4, the token starts with what
was clicked on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.prompt_map import NUM_REGIONS, DrawnPrompts


class AppearanceToken(nn.Module):
    """Pool the encoder's finer maps under drawn prompts, and project them into one token.

    Parameters
    ----------
    dim : int
        Channels D of the token.
    skip_dims : tuple of int
        Channels of the encoder's finer maps, coarse to fine.
    """

    def __init__(self, dim: int, skip_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(NUM_REGIONS * sum(skip_dims), dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(
        self, skips: tuple[Tensor, ...], drawn: DrawnPrompts, image_index: Tensor | None
    ) -> Tensor:
        """Describe what N prompts cover.

        Parameters
        ----------
        skips : tuple of Tensor
            Maps of B images, coarse to fine; the last is at the resolution of the drawing.
        drawn : DrawnPrompts
            Of N prompts.
        image_index : Tensor of shape (N,), optional
            The image of every prompt; without it there is one image.

        Returns
        -------
        Tensor of shape (N, 1, D)
        """
        pooled: list[Tensor] = []
        for skip in skips:
            factor = skips[-1].shape[-1] // skip.shape[-1]
            weights = drawn.regions if factor == 1 else functional.avg_pool2d(drawn.regions, factor)
            size_hw = weights.shape[-2:]
            weights = weights.flatten(2)
            weights = (weights / (weights.sum(-1, keepdim=True) + 0.1)).to(skip.dtype)
            if drawn.corners_yx is None:
                pixels = skip.flatten(2).transpose(1, 2)
                pooled.append(_pool(weights, pixels, image_index))
            else:
                corners = [(y // factor, x // factor) for y, x in drawn.corners_yx]
                windows = _cut(skip, corners, size_hw, image_index)
                pooled.append((weights @ windows.flatten(2).transpose(1, 2)).flatten(1))
        token: Tensor = self.project(torch.cat(pooled, dim=1))
        return token[:, None]


def _cut(
    maps: Tensor,
    corners_yx: Sequence[tuple[int, int]],
    size_hw: Sequence[int],
    image_index: Tensor | None,
) -> Tensor:
    """Cut each prompt's window out of its image's map (B, D, H, W): (N, D, *size_hw)."""
    height, width = size_hw
    images = [0] * len(corners_yx) if image_index is None else image_index.tolist()
    return torch.stack(
        [
            maps[image, :, y : y + height, x : x + width]
            for image, (y, x) in zip(images, corners_yx, strict=True)
        ]
    )


def _pool(weights: Tensor, pixels: Tensor, image_index: Tensor | None) -> Tensor:
    """Sum pixels (B, P, D) under the weights (N, R, P) of prompts: (N, R * D)."""
    if image_index is None:
        return (weights @ pixels).flatten(1)
    # One product per image: a copy of the image's pixels for every prompt costs more than the sum.
    pooled = weights.new_zeros(*weights.shape[:2], pixels.shape[-1])
    for image in range(len(pixels)):
        prompts = torch.nonzero(image_index == image)[:, 0]
        if len(prompts):
            sums = (weights[prompts].flatten(0, 1) @ pixels[image]).to(pooled.dtype)
            pooled = pooled.index_copy(0, prompts, sums.unflatten(0, (len(prompts), -1)))
    return pooled.flatten(1)
