"""Prompts drawn as a map: smooth discs for clicks, filled boxes, earlier logits.

The idea is RITM's (Sofiiuk et al. 2021), which feeds drawn clicks and the previous mask to a
convolutional network. Here the map enters the dense path that SAM has for mask prompts, so that a
network trained from scratch need not learn from Fourier features where a click is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.layers import LayerNorm2d

_CELL = 4  # Input pixels per cell of the map: the grid of the low-res masks.
_RADII = (1.5, 6.0)  # Cells; the sharp disc says where, the wide one is seen after downsampling.
_LOGIT_RANGE = 10.0  # Earlier logits are squashed into -1..1 with this width.

NUM_REGIONS = 5
"""Regions that :func:`prompt_regions` makes."""


class PromptMap(nn.Module):
    """Draw N prompts on the low-res grid and encode the drawing.

    Shape legend: N prompts, K points, D embedding channels, S skip channels, h and w of the low-res
    grid (a quarter of the input), which are multiples of 4.
    """

    def __init__(self, embed_dim: int, skip_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(2 * len(_RADII) + 3, hidden_dim, kernel_size=3, padding=1), nn.GELU()
        )
        self.to_skip = nn.Conv2d(hidden_dim, skip_dim, kernel_size=1)
        self.to_dense = nn.Sequential(
            nn.Conv2d(hidden_dim, embed_dim // 2, kernel_size=4, stride=4),
            LayerNorm2d(embed_dim // 2),
            nn.GELU(),
            nn.Conv2d(embed_dim // 2, embed_dim, kernel_size=1),
        )

    def forward(
        self,
        size_hw: tuple[int, int],
        count: int,
        points_xy: Tensor | None,
        point_labels: Tensor | None,
        boxes_xyxy: Tensor | None,
        mask_logits: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return dense embedding (N, D, h / 4, w / 4), skip features (N, S, h, w) and regions."""
        weight = self.to_skip.weight
        drawing = draw_prompts(
            size_hw, count, points_xy, point_labels, boxes_xyxy, mask_logits, weight.device
        )
        fine = self.fine(drawing.contiguous(memory_format=torch.channels_last))
        reduce, *rest = self.to_dense
        dense = reduce_cells(fine, reduce)
        for layer in rest:
            dense = layer(dense)
        return dense, self.to_skip(fine), prompt_regions(drawing)


def reduce_cells(x: Tensor, layer: nn.Module) -> Tensor:
    """Apply a convolution whose stride is its kernel's size as the linear layer that it is.

    PyTorch 2.13 (oneDNN on CPUs with AMX) computes this convolution wrongly in bfloat16, with a
    relative error above 1; the linear layer is right everywhere.

    Parameters
    ----------
    x : Tensor of shape (N, D, H, W)
        H and W are multiples of the kernel's size.
    layer : nn.Conv2d
    """
    assert isinstance(layer, nn.Conv2d)
    size = layer.kernel_size[0]
    cells = x.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))  # (N, D, h, size, w, size)
    rows = cells.permute(0, 2, 4, 1, 3, 5).flatten(3)
    reduced = nn.functional.linear(rows, layer.weight.flatten(1), layer.bias)
    return reduced.permute(0, 3, 1, 2)


def draw_prompts(
    size_hw: tuple[int, int],
    count: int,
    points_xy: Tensor | None,
    point_labels: Tensor | None,
    boxes_xyxy: Tensor | None,
    mask_logits: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Draw prompts on the low-res grid.

    Parameters
    ----------
    size_hw : tuple of int
        Rows and columns of the grid; one cell is 4 x 4 input pixels.
    count : int
        N, the number of prompts.
    points_xy, point_labels, boxes_xyxy, mask_logits : Tensor, optional
        As in :class:`~sam_plugins.model.networks.prompt_encoder.PromptEncoder`.
    device : torch.device

    Returns
    -------
    Tensor of shape (N, 7, h, w)
        Sharp and wide discs of positive points, the same of negative points, box, logits in -1..1
        and whether there are logits.
    """
    height, width = size_hw
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    channels: list[Tensor] = []
    for label in (1, 0):
        for radius in _RADII:
            if points_xy is None or point_labels is None:
                channels.append(torch.zeros(count, height, width, device=device))
                continue
            cells = (points_xy.float() + 0.5) / _CELL - 0.5
            # A Gaussian is separable: K columns times K rows instead of K full maps of distances.
            column = torch.exp(-((x - cells[..., 0, None]) ** 2) / (2 * radius**2))
            row = torch.exp(-((y - cells[..., 1, None]) ** 2) / (2 * radius**2))
            row = row * (point_labels == label)[..., None]
            discs = row[..., :, None] * column[..., None, :]
            channels.append(discs.amax(dim=1))
    if boxes_xyxy is None:
        channels.append(torch.zeros(count, height, width, device=device))
    else:
        edges = (boxes_xyxy.float() + 0.5) / _CELL - 0.5
        # Soft edges keep the box's position to a fraction of a cell.
        in_x = _ramp(x - edges[:, 0, None]) * _ramp(edges[:, 2, None] - x)
        in_y = _ramp(y - edges[:, 1, None]) * _ramp(edges[:, 3, None] - y)
        channels.append(in_y[:, :, None] * in_x[:, None, :])
    if mask_logits is None:
        channels += [torch.zeros(count, height, width, device=device)] * 2
    else:
        channels.append(torch.tanh(mask_logits[:, 0].float() / _LOGIT_RANGE))
        channels.append(torch.ones(count, height, width, device=device))
    return torch.stack(channels, dim=1)


def prompt_regions(drawing: Tensor) -> Tensor:
    """Return where prompts say that something is, as weights.

    Parameters
    ----------
    drawing : Tensor of shape (N, 7, h, w)
        From :func:`draw_prompts`.

    Returns
    -------
    Tensor of shape (N, 5, h, w)
        Sharp and wide discs of positive points, sharp discs of negative points, box, earlier mask.
    """
    earlier = drawing[:, 5].clamp(min=0)
    return torch.cat([drawing[:, [0, 1, 2, 4]], earlier[:, None]], dim=1)


def _ramp(distance: Tensor) -> Tensor:
    """1 inside, 0 outside, linear over one cell around the edge."""
    return (distance + 0.5).clamp(0, 1)
