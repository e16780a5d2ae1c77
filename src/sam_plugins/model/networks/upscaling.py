"""From the cells of an embedding to maps four times as fine, with an encoder's finer maps."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.layers import is_exported


def split_cells(cells: Tensor, layer: nn.Module, *, with_bias: bool = True) -> Tensor:
    """Split every cell into 2 x 2 by a transposed convolution whose stride is its kernel's size.

    Such a convolution never mixes neighbours: it is a linear layer with four answers, which CPUs
    run several times as fast, and the parts can stay beside each other until they are needed.

    Parameters
    ----------
    cells : Tensor of shape (..., D)
    layer : nn.ConvTranspose2d
        With a kernel and a stride of 2.
    with_bias : bool
        Add the layer's bias.

    Returns
    -------
    Tensor of shape (..., 4, F)
        Above left, above right, below left, below right.
    """
    assert isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # From (D, F, row, column).
    bias = layer.bias.repeat(4) if with_bias and layer.bias is not None else None
    split: Tensor = functional.linear(cells, weight, bias).unflatten(-1, (4, -1))
    return split


def cells_to_map(cells: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Put cells that were split twice in order: (N, h * w, 4, 4, F) to (N, F, 4 h, 4 w)."""
    height, width = size_hw
    count, dim = cells.shape[0], cells.shape[-1]
    if not (torch.is_grad_enabled() or is_exported()):
        # Pairs of columns lie beside each other already: moving them one by one is four to sixteen
        # times as fast as PyTorch's copy of a view with eight axes.
        pairs = cells.reshape(count, 8 * height * width, 2 * dim)
        ordered = pairs.index_select(1, _order_of_pairs(height, width, cells.device))
        return ordered.reshape(count, 4 * height, 4 * width, dim).permute(0, 3, 1, 2)
    # Rows: cell, first half, second half; then columns in the same way.
    ordered = cells.reshape(count, height, width, 2, 2, 2, 2, dim).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return ordered.reshape(count, 4 * height, 4 * width, dim).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _order_of_pairs(height: int, width: int, device: torch.device) -> Tensor:
    """Return where the pairs of columns of a map lie among those of twice split cells."""
    numbers = torch.arange(8 * height * width, device=device)
    cells = numbers.reshape(height, width, 2, 2, 2)  # row and column of the halves, then row
    return cells.permute(0, 2, 4, 1, 3).flatten()


class SkipFusion(nn.Module):
    """Bring the encoder's finer maps to the decoder's widths, and refine the sum."""

    def __init__(self, skip_dims: tuple[int, ...], upscale_dims: tuple[int, int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(skip, out, kernel_size=1)
            for skip, out in zip(skip_dims, upscale_dims, strict=True)
        )
        fine = upscale_dims[-1]
        self.refinement = nn.Conv2d(fine, fine, kernel_size=3, padding=1)

    def project(self, skips: tuple[Tensor, ...], size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Project the maps of B images, once per image and not once per prompt.

        Returns
        -------
        middle : Tensor of shape (B, h * w, 4, F)
            In the order of :func:`split_cells`.
        fine : Tensor of shape (B, F', 4 h, 4 w)
        """
        middle, fine = (layer(skip) for layer, skip in zip(self.projections, skips, strict=True))
        height, width = size_hw
        cells = middle.unflatten(-1, (width, 2)).unflatten(-3, (height, 2))
        return cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2), fine

    def refine(self, image: Tensor) -> Tensor:
        """Add what a pixel's neighbours say: (N, D, H, W) to the same."""
        found: Tensor = self.refinement(image).relu_()
        # In place where no gradient needs it: a new map of this size costs more than the sum.
        return image + found if torch.is_grad_enabled() else found.add_(image)


def per_prompt(maps: Tensor, image_index: Tensor | None) -> Tensor:
    """Give every prompt its image's map (N, ...); a single image is left to be broadcast."""
    if image_index is None:
        return maps
    if maps.ndim < 4:
        return maps.index_select(0, image_index)
    # Through a view in the order of memory, which is channels last: else the copy would not be.
    return maps.permute(0, 2, 3, 1).index_select(0, image_index).permute(0, 3, 1, 2)
