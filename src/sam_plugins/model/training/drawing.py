"""What a masked autoencoder shall draw, and a picture of what it does."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sam_plugins.model.networks.masked_autoencoder import (
    MaeOutput,
    normalised_patches,
    patch_statistics,
    patchify,
    unpatchify,
)

TITLES = ("original", "masked", "reconstruction", "both")
_GAP = 4
_HEADING = 22


GREY_LEVEL = (1 / 255) ** 2
"""Added to the variance of a patch, whose values go from 0 to 1: where they differ by less than a
level of grey there is nothing to draw but the noise of an empty background."""


def drawing_targets(images: Tensor, patch_size: int) -> Tensor:
    """Return what the network shall draw of pictures (B, 3, S, S), uint8.

    As in the paper each patch counts less its mean and by its deviation, but of the colours as they
    are, not by ImageNet's mean and deviation of each: these would leave an offset between the equal
    colours of a grey picture, which in smooth patches is more than all there is to see.
    """
    return normalised_patches(images.float() / 255, patch_size, GREY_LEVEL)


def draw_reconstructions(images: Tensor, output: MaeOutput, patch_size: int) -> Image.Image:
    """Draw one row for each picture: original, masked, reconstruction, and both together.

    The network draws every patch less its mean and by its deviation: as in the paper's figures of
    such networks, both are taken from the original, without which there is nothing to see.

    Parameters
    ----------
    images : Tensor of shape (B, 3, S, S), uint8
    output : MaeOutput
        What the network made of them, by :func:`drawing_targets`.
    patch_size : int
    """
    patches = patchify(images.float() / 255, patch_size)
    mean, deviation = patch_statistics(patches, GREY_LEVEL)
    drawn = output.patches.float() * deviation + mean
    is_masked = output.is_masked[..., None]
    columns = [
        _as_pixels(unpatchify(part, patch_size))
        for part in (
            patches,
            patches.masked_fill(is_masked, 0.5),
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


def _as_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Return values (B, 3, S, S) of 0 to 1 as pixels (B, S, S, 3)."""
    values = images.permute(0, 2, 3, 1).cpu() * 255
    pixels: NDArray[np.uint8] = values.round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels
