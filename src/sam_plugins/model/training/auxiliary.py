"""A light head that teaches the image encoder to tell objects apart, and is then thrown away.

Decoding prompts in earnest takes most of a step's time, so the encoder would see few pictures. This
head answers a click with a mask at a hundredth of the cost: what lies under the click becomes the
weights of three tiny layers, which look at the finest map and at where a pixel is from the click
(conditional convolutions: CondInst, Tian et al. 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.config import PyramidConfig
from sam_plugins.model.networks.features import ImageFeatures

_MAP_DIM = 24
_HIDDEN_DIM = 8
_PLACE_DIM = 3
_SIZES = (
    ((_MAP_DIM + _PLACE_DIM), _HIDDEN_DIM),
    (_HIDDEN_DIM, _HIDDEN_DIM),
    (_HIDDEN_DIM, 1),
)
_REACH = 24.0  # Cells at which a distance counts as 1.


class ClickHead(nn.Module):
    """Answer clicks from the maps of a pyramid.

    Shape legend: B images, N clicks, h and w of the low-res grid, a quarter of the input.

    Parameters
    ----------
    config : PyramidConfig
        Of the encoder whose maps are read.
    """

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        middle, fine = config.skip_dims
        self.from_middle = nn.Conv2d(middle, _MAP_DIM, kernel_size=1)
        self.from_fine = nn.Conv2d(fine, _MAP_DIM, kernel_size=1)
        num_weights = sum(ins * outs + outs for ins, outs in _SIZES)
        self.to_weights = nn.Sequential(
            nn.Linear(config.out_dim + middle + fine, 128), nn.GELU(), nn.Linear(128, num_weights)
        )
        last = self.to_weights[-1]
        assert isinstance(last, nn.Linear)
        # Calm at first: three layers of random weights multiply to logits of hundreds.
        with torch.no_grad():
            last.weight.mul_(0.3)
            last.bias.uniform_(-0.3, 0.3)
            last.bias[-1] = -3.0

    def forward(self, features: ImageFeatures, cells_xy: Tensor, image_index: Tensor) -> Tensor:
        """Predict one mask for each click.

        Parameters
        ----------
        features : ImageFeatures
            Of B images.
        cells_xy : Tensor of shape (N, 2), int64
            Column and row of each click on the low-res grid.
        image_index : Tensor of shape (N,), int64

        Returns
        -------
        Tensor of shape (N, 1, h, w)
            Logits.
        """
        middle, fine = features.skips
        below = functional.interpolate(self.from_middle(middle), scale_factor=2.0, mode="nearest")
        maps = functional.relu(self.from_fine(fine) + below)
        x, y = cells_xy.unbind(1)
        seen = [
            part[image_index, :, y // factor, x // factor]
            for part, factor in ((features.embedding, 4), (middle, 2), (fine, 1))
        ]
        weights = self.to_weights(torch.cat(seen, dim=1))
        pixels = torch.cat(
            [maps[image_index].flatten(2), _places(cells_xy, maps).to(maps.dtype)], dim=1
        )
        start = 0
        for number, (ins, outs) in enumerate(_SIZES):
            kernel = weights[:, start : start + ins * outs].unflatten(1, (outs, ins))
            start += ins * outs
            pixels = kernel @ pixels + weights[:, start : start + outs, None]
            start += outs
            if number + 1 < len(_SIZES):
                pixels = functional.relu(pixels)
        logits: Tensor = pixels.unflatten(2, tuple(maps.shape[-2:]))
        return logits


def draw_cells(target: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a click on each object.

    Parameters
    ----------
    target : Tensor of shape (N, h, w)
        Share of each cell that the object covers; no object is empty.
    generator : torch.Generator

    Returns
    -------
    Tensor of shape (N, 2), int64
        Column and row.
    """
    chosen = torch.multinomial(target.flatten(1).square(), 1, generator=generator)[:, 0]
    width = target.shape[-1]
    return torch.stack([chosen % width, chosen // width], dim=1)


def _places(cells_xy: Tensor, maps: Tensor) -> Tensor:
    """Where every pixel is from each click: x, y and distance, (N, 3, h * w)."""
    height, width = maps.shape[-2:]
    x = torch.arange(width, device=maps.device) - cells_xy[:, 0, None]
    y = torch.arange(height, device=maps.device) - cells_xy[:, 1, None]
    right = (x[:, None] / _REACH).expand(-1, height, -1)
    down = (y[:, :, None] / _REACH).expand(-1, -1, width)
    return torch.stack([right, down, torch.hypot(right, down)], dim=1).flatten(2)
