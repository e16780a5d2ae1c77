"""Text prompts without texts: objects are asked for with what CLIP sees of them.

After the Segment Anything paper (Kirillov et al. 2023, section 7.5 and appendix D.5). CLIP puts
pictures and phrases into one space, so a network that was trained with the embedding of an object's
crop as its prompt can be asked with the embedding of a phrase, and no picture needs a caption.

What differs: CLIP's own attention is left as it is, where the paper masks that of its last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from sam_plugins.model.inference.mask_crops import WindowMask, crop_object
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import TrainingBatch


class CropEncoder(Protocol):
    """The half of a text encoder that training needs: crops to vectors of length 1."""

    @property
    def dim(self) -> int:
        """Length E of the vectors."""

    @property
    def crop_size(self) -> int:
        """Pixels of a side of the crops."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour that says nothing."""

    def embed_crops(self, crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return vectors (n, E) of crops (S, S, 3)."""


@dataclass(frozen=True)
class TextPromptOptions:
    """How objects are asked for by what CLIP sees of them.

    Parameters
    ----------
    scales : (float, float)
        Range of the crop's side over the longer side of the object's box; the paper's.
    masked_share : float
        Share of crops without what lies beside the object; the paper's.
    text_share : float
        Share of objects that are first asked for in this way, the others with a point: a network
        that is asked in one way alone forgets the other.
    min_area : int
        Pixels of the network's input of the smallest object that is asked for in this way. The
        paper takes 100², on pictures of 1,024 pixels.
    rounds : tuple of float
        Probabilities of one, two, three, ... answers for each object: after the first, points
        correct the last mask.
    """

    scales: tuple[float, float] = (1.0, 2.0)
    masked_share: float = 0.5
    text_share: float = 0.7
    min_area: int = 100
    rounds: tuple[float, ...] = (0.7, 0.2, 0.1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("masked_share", "text_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 1 <= self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be a range from 1 or more, got {self.scales}")
        if abs(sum(self.rounds) - 1) > 1e-6:
            raise ValueError(f"rounds must sum to 1, got {self.rounds}")


def with_text_slot(network: Sam, dim: int) -> Sam:
    """Return a copy of a network that also takes text embeddings, with a fresh projection of them.

    Parameters
    ----------
    network : Sam
    dim : int
        Length E of the embeddings.

    Returns
    -------
    Sam
        On the CPU; every other answer is as before.

    Raises
    ------
    ValueError
        If ``dim`` is below 1, or the network takes embeddings of another length already.
    """
    known = network.config.prompt_encoder.text_dim
    if dim < 1 or known not in {None, dim}:
        raise ValueError(
            f"dim must be 1 or more, and that of the text slot where there is one ({known}), "
            f"got {dim}"
        )
    prompts = replace(network.config.prompt_encoder, text_dim=dim)
    larger = build_sam(replace(network.config, prompt_encoder=prompts))
    fresh = {
        name: value for name, value in larger.state_dict().items() if "text_projection" in name
    }
    if known is None:
        # Vectors of length 1 would be whispered beside tokens whose entries are about 1.
        weight = fresh["prompt_encoder.text_projection.weight"]
        nn.init.normal_(weight)
    larger.load_state_dict(fresh | {k: v.cpu() for k, v in network.state_dict().items()})
    return larger


def object_embeddings(
    batch: TrainingBatch, encoder: CropEncoder, options: TextPromptOptions, rng: np.random.Generator
) -> Tensor:
    """Return what CLIP sees of each object of a batch, in crops of random size.

    Parameters
    ----------
    batch : TrainingBatch
        Of N objects, none of them empty.
    encoder : CropEncoder
        It does not learn.
    options : TextPromptOptions
    rng : Generator

    Returns
    -------
    Tensor of shape (N, E), float32
        On the batch's device.
    """
    images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
    crops = []
    for mask, index in zip(batch.masks.cpu().numpy(), batch.image_index.tolist(), strict=True):
        window: Any = ndimage.find_objects((mask > 0).astype(np.uint8))[0]
        crops.append(
            crop_object(
                images[index],
                WindowMask(window, mask[window] > 0),
                encoder.crop_size,
                scale=float(rng.uniform(*options.scales)),
                is_masked=bool(rng.random() < options.masked_share),
                fill=encoder.fill,
            )
        )
    return torch.from_numpy(encoder.embed_crops(crops)).to(batch.images.device)
