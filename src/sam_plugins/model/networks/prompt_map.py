"""Prompts drawn as a map: smooth discs for clicks, filled boxes, earlier logits.

The idea is RITM's (Sofiiuk et al. 2021), which feeds drawn clicks and the previous mask to a
convolutional network. Here the map enters the dense path that SAM has for mask prompts, so that a
network trained from scratch need not learn from Fourier features where a click is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.layers import LayerNorm2d, is_exported
from sam_plugins.model.networks.mask_windows import Window, expected_windows, reach_of

_CELL = 4  # Input pixels per cell of the map: the grid of the low-res masks.
_RADII = (1.5, 6.0)  # Cells; the sharp disc says where, the wide one is seen after downsampling.
_REACH = 32  # Cells around a click beyond which even the wide disc is below 1e-6.
_BOX_REACH = 2  # Cells around a box: its edges are soft.
_MAX_WINDOW_SHARE = 0.5  # Of the map; a larger window saves nothing.
_LOGIT_RANGE = 10.0  # Earlier logits are squashed into -1..1 with this width.

NUM_REGIONS = 5
"""Regions that :func:`prompt_regions` makes."""


class DrawnPrompts(NamedTuple):
    """N drawn prompts, encoded.

    Shape legend: as that of :class:`PromptMap`; H and W of the window, the whole grid or less.

    Attributes
    ----------
    dense : Tensor of shape (N, D, h / 4, w / 4)
        Of the whole grid.
    skip : Tensor of shape (N, S, H, W)
        Of the window of each prompt, 0 where nothing is drawn.
    regions : Tensor of shape (N, R, H, W)
        Of the window, from :func:`prompt_regions`; they are 0 outside.
    corners_yx : sequence of (int, int), optional
        First row and column of each prompt's window, multiples of 4; None for the whole grid.
    expected : sequence of Window or None, optional
        Where each prompt's mask is expected, None where no prompt says where; None altogether
        where masks are drawn as a whole: with gradients, on a GPU, which is quicker with all
        prompts at once, and in an exported graph, which has no ifs.
    """

    dense: Tensor
    skip: Tensor
    regions: Tensor
    corners_yx: tuple[tuple[int, int], ...] | None = None
    expected: tuple[Window | None, ...] | None = None

    def at(self, number: int) -> DrawnPrompts:
        """Return one of the prompts."""
        which = slice(number, number + 1)
        return DrawnPrompts(
            self.dense[which],
            self.skip[which],
            self.regions[which],
            None if self.corners_yx is None else self.corners_yx[which],
            None if self.expected is None else self.expected[which],
        )

    def within(self, window: Window) -> DrawnPrompts:
        """Cut the skip features of one prompt to a window of the embedding, and these alone."""
        (y, x) = (0, 0) if self.corners_yx is None else self.corners_yx[0]
        height, width = self.skip.shape[-2:]
        top, left = max(y, 4 * window.top), max(x, 4 * window.left)
        bottom = max(top, min(y + height, 4 * window.bottom))
        right = max(left, min(x + width, 4 * window.right))
        seen = self.skip[..., top - y : bottom - y, left - x : right - x]
        corner = (top - 4 * window.top, left - 4 * window.left)
        return self._replace(skip=seen, corners_yx=(corner,))


class PromptMap(nn.Module):
    """Draw N prompts on the low-res grid and encode the drawing.

    Shape legend: N prompts, K points, D embedding channels, S skip channels, h and w of the low-res
    grid (a quarter of the input), which are multiples of 4.
    """

    def __init__(self, embed_dim: int, skip_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(2 * len(_RADII) + 3, hidden_dim, kernel_size=3, padding=1), nn.ReLU()
        )
        self.to_skip = nn.Conv2d(hidden_dim, skip_dim, kernel_size=1, bias=False)
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
    ) -> DrawnPrompts:
        """Draw and encode N prompts.

        A click on a large picture changes little of the map: without gradients and earlier logits,
        only a window around each prompt is computed, and what is elsewhere is known.

        Parameters
        ----------
        size_hw, count, points_xy, point_labels, boxes_xyxy, mask_logits
            As those of :func:`draw_prompts`.
        """
        device = self.to_skip.weight.device
        if points_xy is not None and points_xy.shape[1] == 0:
            points_xy = point_labels = None
        window = expected = None
        if count and not torch.is_grad_enabled():
            if device.type == "cpu" and not is_exported():
                expected = expected_windows(
                    size_hw, count, points_xy, point_labels, boxes_xyxy, mask_logits
                )
            if mask_logits is None:
                window = drawn_window(size_hw, count, points_xy, point_labels, boxes_xyxy)
        if window is None:
            drawing = draw_prompts(
                size_hw, count, points_xy, point_labels, boxes_xyxy, mask_logits, device
            )
            dense, skip = self._encode(drawing)
            return DrawnPrompts(dense, skip, prompt_regions(drawing), expected=expected)
        window_hw, corners = window
        shift = _CELL * torch.tensor([corner[::-1] for corner in corners], device=device)
        drawing = draw_prompts(
            window_hw,
            count,
            None if points_xy is None else points_xy - shift[:, None],
            point_labels,
            None if boxes_xyxy is None else boxes_xyxy - shift.repeat(1, 2),
            None,
            device,
        )
        windows, skip = self._encode(drawing)
        outside, _ = self._encode(drawing.new_zeros(1, drawing.shape[1], _CELL, _CELL))
        dense = outside.repeat(count, 1, size_hw[0] // _CELL, size_hw[1] // _CELL)
        height, width = windows.shape[-2:]
        for whole, part, (top, left) in zip(dense, windows, corners, strict=True):
            y, x = top // _CELL, left // _CELL
            whole[:, y : y + height, x : x + width] = part
        return DrawnPrompts(dense, skip, prompt_regions(drawing), corners, expected)

    def _encode(self, drawing: Tensor) -> tuple[Tensor, Tensor]:
        """Dense embedding (N, D, h / 4, w / 4) and skip features (N, S, h, w) of drawings."""
        enter, activation = self.fine
        drawing = drawing.contiguous(memory_format=torch.channels_last)
        fine = activation(enter(drawing.to(self.to_skip.weight.dtype)))
        reduce, *rest = self.to_dense
        dense = reduce_cells(fine, reduce)
        for layer in rest:
            dense = layer(dense)
        # Without a bias and without what an empty drawing would give, so that it adds nothing.
        weight, empty = self.to_skip.weight, activation(enter.bias)
        return dense, functional.conv2d(fine, weight, -weight.flatten(1) @ empty)


def drawn_window(
    size_hw: tuple[int, int],
    count: int,
    points_xy: Tensor | None,
    point_labels: Tensor | None,
    boxes_xyxy: Tensor | None,
) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]] | None:
    """Return windows outside of which a drawing is empty, all of one size.

    Parameters
    ----------
    size_hw, count, points_xy, point_labels, boxes_xyxy
        As those of :func:`draw_prompts`.

    Returns
    -------
    window_hw : (int, int)
        Rows and columns, multiples of 4.
    corners_yx : tuple of (int, int)
        First row and column of each window, multiples of 4.
    None
        If the windows would be most of the grid.
    """
    low, high = reach_of(count, points_xy, point_labels, boxes_xyxy, _REACH, _BOX_REACH)
    limits_xy = torch.tensor(size_hw[::-1])
    first = (low.nan_to_num(posinf=0).floor().clamp(min=0).long() // _CELL) * _CELL
    first = torch.minimum(first, limits_xy - _CELL)
    last = torch.minimum(high.nan_to_num(neginf=0).ceil().clamp(min=0).long(), limits_xy - 1)
    sides = (last - first + 1).clamp(min=1).amax(0)
    sides = torch.minimum(-(-sides // _CELL) * _CELL, limits_xy)
    if sides.prod() > _MAX_WINDOW_SHARE * size_hw[0] * size_hw[1]:
        return None
    placed: list[list[int]] = torch.minimum(first, limits_xy - sides).tolist()
    width, height = sides.tolist()
    return (height, width), tuple((y, x) for x, y in placed)


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
    reduced = functional.linear(rows, layer.weight.flatten(1), layer.bias)
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
