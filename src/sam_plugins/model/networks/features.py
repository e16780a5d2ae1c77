"""What an image encoder returns, and what the mask decoder makes of it once for a picture."""

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


class PreparedImage(NamedTuple):
    """Features with all that the mask decoder computes of them alone: once, for every prompt.

    Shape legend: B images, D channels, h and w a sixteenth of the input, F and F' the channels of
    the mask decoder's upscaled maps.

    Attributes
    ----------
    features : ImageFeatures
    positions : Tensor of shape (1 or B, D, h, w)
        Positional encoding of the embedding's cells.
    projected_skips : tuple of Tensor
        The finer maps at the decoder's widths, (B, h * w, 4, F) and (B, F', 4 h, 4 w); empty for
        SAM's decoders.
    """

    features: ImageFeatures
    positions: Tensor
    projected_skips: tuple[Tensor, ...] = ()
