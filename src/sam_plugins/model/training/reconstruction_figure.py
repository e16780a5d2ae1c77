"""A picture of what a masked autoencoder sees and draws."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.networks.masked_autoencoder import (
    MaeOutput,
    patch_statistics,
    patchify,
    unpatchify,
)

TITLES = ("original", "masked", "reconstruction", "with what was seen")
_GAP = 4
_HEADING = 22


def draw_reconstructions(
    images: Tensor, output: MaeOutput, patch_size: int, preprocessing: Preprocessing
) -> Image.Image:
    """Draw one row for each picture: original, masked, reconstruction, and both together.

    The network draws every patch less its mean and by its deviation: as in the paper's figures of
    such networks, both are taken from the original, without which there is nothing to see.

    Parameters
    ----------
    images : Tensor of shape (B, 3, S, S)
        Normalised, as the network saw them.
    output : MaeOutput
        What it made of them.
    patch_size : int
    preprocessing : Preprocessing
        How they were normalised.
    """
    patches = patchify(images.float(), patch_size)
    mean, deviation = patch_statistics(patches)
    drawn = output.patches.float() * deviation + mean
    is_masked = output.is_masked[..., None]
    columns = [
        _as_pixels(unpatchify(part, patch_size), preprocessing)
        for part in (
            patches,
            patches.masked_fill(is_masked, 0.0),  # the mean colour, a grey
            drawn,
            torch.where(is_masked, drawn, patches),
        )
    ]
    count, size = len(images), images.shape[-1]
    width = len(columns) * (size + _GAP) - _GAP
    sheet = Image.new("RGB", (width, _HEADING + count * (size + _GAP) - _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for index, (title, column) in enumerate(zip(TITLES, columns, strict=True)):
        left = index * (size + _GAP)
        pen.text((left, 2), title, fill="black", font=font)
        for row, one in enumerate(column):
            sheet.paste(Image.fromarray(one), (left, _HEADING + row * (size + _GAP)))
    return sheet


def _as_pixels(images: Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return normalised pictures (B, 3, S, S) as pixels (B, S, S, 3)."""
    mean, std = torch.tensor(preprocessing.pixel_mean), torch.tensor(preprocessing.pixel_std)
    values = images.permute(0, 2, 3, 1).cpu() * std + mean
    pixels: NDArray[np.uint8] = values.round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels
