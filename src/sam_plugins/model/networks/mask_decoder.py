"""From an image embedding and prompts to masks and the IoU that the model expects of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.appearance import AppearanceToken
from sam_plugins.model.networks.config import MaskDecoderConfig
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.layers import LayerNorm2d, Mlp
from sam_plugins.model.networks.mask_scorer import MaskScorer
from sam_plugins.model.networks.prompt_encoder import EncodedPrompts
from sam_plugins.model.networks.two_way_transformer import TwoWayTransformer


class MaskOutput(NamedTuple):
    """Masks of N prompts, C each: first the single mask, then those for an ambiguous prompt.

    Attributes
    ----------
    logits : Tensor of shape (N, C, 4 h, 4 w)
        Positive inside; a quarter of the resolution of the network's input.
    iou_predictions : Tensor of shape (N, C)
        The IoU that the model expects of each mask.
    """

    logits: Tensor
    iou_predictions: Tensor


class MaskDecoder(nn.Module):
    """SAM's mask decoder (appendix A), with finer features and a second look at masks on demand.

    With ``config.uses_skips``, the maps of a pyramid encoder and the drawn prompts join while the
    embedding is upscaled, which keeps fine structure that a stride of 16 has lost. With
    ``config.scores_masks``, the predicted IoU also depends on the masks themselves.

    Parameters
    ----------
    config : MaskDecoderConfig
    dim : int
        Channels D of the image embedding.
    skip_dims : tuple of int
        Channels of the encoder's finer maps, coarse to fine; read only with ``uses_skips``.
    """

    def __init__(
        self, config: MaskDecoderConfig, dim: int, skip_dims: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        middle, fine = config.upscale_dims
        self.num_mask_tokens = config.num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(config.depth, dim, config.num_heads, config.mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, middle, kernel_size=2, stride=2),
            LayerNorm2d(middle),
            nn.GELU(),
            nn.ConvTranspose2d(middle, fine, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(dim, dim, fine, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = Mlp(
            dim, config.iou_head_hidden_dim, self.num_mask_tokens, config.iou_head_depth
        )
        self.skips = None
        if config.uses_skips:
            if len(skip_dims) != 2:
                raise ValueError(
                    f"uses_skips needs an encoder with two finer maps, got {len(skip_dims)}"
                )
            self.skips = SkipFusion(skip_dims, config.upscale_dims)
            self.appearance = AppearanceToken(dim, skip_dims)
        self.mask_scorer = MaskScorer(dim, fine) if config.scores_masks else None

    def forward(
        self,
        features: ImageFeatures,
        image_pe: Tensor,
        prompts: EncodedPrompts,
        image_index: Tensor | None = None,
    ) -> MaskOutput:
        """Predict all masks; the caller picks the single one or those for an ambiguous prompt.

        Parameters
        ----------
        features : ImageFeatures of B images
        image_pe : Tensor of shape (1, D, h, w)
            Positional encoding of the embedding's cells.
        prompts : EncodedPrompts of N prompts
        image_index : Tensor of shape (N,), integer, optional
            To which image each prompt belongs; without it there must be one image.

        Returns
        -------
        MaskOutput

        Raises
        ------
        ValueError
            If there are several images and no ``image_index``.
        """
        count = prompts.tokens.shape[0]
        if image_index is None and features.embedding.shape[0] != 1:
            raise ValueError(
                "image_index must say which image each prompt belongs to, "
                f"got None for {features.embedding.shape[0]} images"
            )
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(count, -1, -1), prompts.tokens], dim=1)
        appearance = None
        if self.skips is not None and prompts.regions is not None:
            appearance = self.appearance(features.skips, prompts.regions, image_index)
            tokens = torch.cat([tokens, appearance], dim=1)
        image = _per_prompt(features.embedding, image_index) + prompts.dense
        tokens, pixels = self.transformer(image, image_pe, tokens)
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        if appearance is not None:
            mask_tokens = mask_tokens + appearance
        upscaled = self._upscale(
            pixels.transpose(1, 2).unflatten(2, tuple(image.shape[-2:])),
            features,
            prompts.skip,
            image_index,
        )
        weights = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ upscaled.flatten(2)).unflatten(2, tuple(upscaled.shape[-2:]))
        iou_predictions = self.iou_prediction_head(tokens[:, 0])
        if self.mask_scorer is not None:
            iou_predictions = torch.sigmoid(
                (iou_predictions + self.mask_scorer(logits, upscaled, mask_tokens)).float()
            )
        return MaskOutput(logits, iou_predictions)

    def _upscale(
        self,
        image: Tensor,
        features: ImageFeatures,
        prompt_skip: Tensor | None,
        image_index: Tensor | None,
    ) -> Tensor:
        """Map (N, D, h, w) to (N, D / 8, 4 h, 4 w)."""
        if self.skips is None:
            upscaled: Tensor = self.output_upscaling(image)
            return upscaled
        grow_middle, norm, activation, grow_fine, _ = self.output_upscaling
        middle_skip, fine_skip = (
            _per_prompt(skip, image_index) for skip in self.skips.project(features.skips)
        )
        # Convolutions on a CPU run about twice as fast with the channels last.
        image = image.contiguous(memory_format=torch.channels_last)
        image = activation(norm(grow_middle(image) + middle_skip))
        image = grow_fine(image) + fine_skip
        if prompt_skip is not None:
            image = image + prompt_skip
        refined: Tensor = self.skips.refine(functional.gelu(image))
        return refined


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

    def project(self, skips: tuple[Tensor, ...]) -> list[Tensor]:
        """Project each map, once per image and not once per prompt."""
        return [layer(skip) for layer, skip in zip(self.projections, skips, strict=True)]

    def refine(self, image: Tensor) -> Tensor:
        """Add what a pixel's neighbours say: (N, D, H, W) to the same."""
        return image + functional.gelu(self.refinement(image))


def _per_prompt(maps: Tensor, image_index: Tensor | None) -> Tensor:
    """Give every prompt its image's map; a single image is broadcast by the caller's addition."""
    return maps if image_index is None else maps.index_select(0, image_index)
