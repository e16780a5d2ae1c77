"""What an image encoder returns, and what the mask decoder makes of it once for a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from sam_plugins.model.networks.two_way_transformer import SharedImage


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

    def named_tensors(self) -> dict[str, Tensor]:
        """Return all tensors: ``"embedding"``, ``"skips.0"``, ``"skips.1"`` and so on."""
        tensors = {"embedding": self.embedding}
        tensors |= {f"skips.{index}": skip for index, skip in enumerate(self.skips)}
        return tensors

    @classmethod
    def from_named_tensors(cls, tensors: Mapping[str, Tensor]) -> ImageFeatures:
        """Build features from :meth:`named_tensors`' result.

        Raises
        ------
        KeyError
            If a tensor is missing.
        """
        count = sum(name.startswith("skips.") for name in tensors)
        return cls(
            tensors["embedding"],
            tuple(tensors[f"skips.{index}"] for index in range(count)),
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> ImageFeatures:
        """Return the features with every tensor changed."""
        changed = {name: change(tensor) for name, tensor in self.named_tensors().items()}
        return self.from_named_tensors(changed)


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
    shared : SharedImage, optional
        What prompts without a mask need not compute again; only of a single picture.
    """

    features: ImageFeatures
    positions: Tensor
    projected_skips: tuple[Tensor, ...] = ()
    shared: SharedImage | None = None
