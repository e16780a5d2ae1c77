"""What an image encoder returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ImageFeatures(NamedTuple):
    """An encoded batch of pictures.

    Shape legend: B images, D channels, h and w a sixteenth of the input.

    Attributes
    ----------
    embedding : Tensor of shape (B, D, h, w)
        What the prompts attend to.
    skips : tuple of Tensor
        Finer maps for the mask decoder, coarse to fine: (B, D8, 2 h, 2 w) and (B, D4, 4 h, 4 w) of
        a pyramid; empty for SAM's encoders.
    """

    embedding: Tensor
    skips: tuple[Tensor, ...] = ()
