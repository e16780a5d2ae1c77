"""From an image embedding and prompts to masks and the IoU that the model expects of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.appearance import AppearanceToken
from sam_plugins.model.networks.config import MaskDecoderConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.layers import ContextBlock, LayerNorm2d, Mlp
from sam_plugins.model.networks.mask_scorer import MaskScorer
from sam_plugins.model.networks.mask_windows import (
    LEAST_DOUBT,
    Window,
    cut_cells,
    is_small,
    sound_part,
    window_edge,
)
from sam_plugins.model.networks.prompt_encoder import EncodedPrompts
from sam_plugins.model.networks.prompt_map import DrawnPrompts
from sam_plugins.model.networks.two_way_transformer import SharedImage, TwoWayTransformer
from sam_plugins.model.networks.upscaling import SkipFusion, cells_to_map, per_prompt, split_cells

ALL_MASKS = slice(None)
"""The single mask and those for an ambiguous prompt."""


class MaskOutput(NamedTuple):
    """Masks of N prompts, C each: first the single mask, then those for an ambiguous prompt.

    Attributes
    ----------
    logits : Tensor of shape (N, C, 4 h, 4 w)
        Positive inside; a quarter of the resolution of the network's input. Far from the prompt
        they may be one number below -1, and what lies apart from it there is not drawn
        (:mod:`~sam_plugins.model.networks.mask_windows`).
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
        self.fusion = nn.Sequential(
            *[ContextBlock(dim, expansion=2, scale=0.1) for _ in range(config.fusion_depth)]
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

    def prepare(
        self, features: ImageFeatures, positions: Tensor, empty: Tensor | None = None
    ) -> PreparedImage:
        """Compute what depends on B images alone, once for any number of prompts.

        Parameters
        ----------
        features : ImageFeatures
        positions : Tensor of shape (1 or B, D, h, w)
            Positional encoding of the embedding's cells.
        empty : Tensor of shape (1, D, 1, 1), optional
            What is added to the embedding for prompts without a mask.
        """
        if self.skips is None:
            shared = None
            if empty is not None and len(features.embedding) == 1 and not len(self.fusion):
                shared = self.transformer.share(features.embedding + empty, positions)
            return PreparedImage(features, positions, shared=shared)
        height, width = features.embedding.shape[-2:]
        middle, fine = self.skips.project(features.skips, (height, width))
        # With the biases of the layers whose output they are added to, which then need none.
        grow_middle, _, _, grow_fine, _ = self.output_upscaling
        assert isinstance(grow_middle.bias, Tensor)
        assert isinstance(grow_fine.bias, Tensor)
        middle = middle + grow_middle.bias.to(middle.dtype)
        fine = fine + grow_fine.bias[:, None, None].to(fine.dtype)
        # Laid out as the maps to which it is added, three times as fast and more in bfloat16.
        fine = fine.contiguous(memory_format=torch.channels_last)
        return PreparedImage(features, positions, (middle, fine))

    def forward(
        self,
        image: PreparedImage,
        prompts: EncodedPrompts,
        image_index: Tensor | None = None,
        *,
        which: slice = ALL_MASKS,
        min_predicted_iou: float = -math.inf,
    ) -> MaskOutput:
        """Predict the single mask of N prompts, those for an ambiguous prompt, or all.

        Parameters
        ----------
        image : PreparedImage
            B images, from :meth:`prepare`.
        prompts : EncodedPrompts of N prompts
        image_index : Tensor of shape (N,), integer, optional
            To which image each prompt belongs; without it there must be one image.
        which : slice
            Of the C masks.
        min_predicted_iou : float
            A prompt of whose masks no one is expected to reach it gets no logits, they are
            negative infinity: what it would cost to draw them is saved. Without effect on a network
            that must see its masks to score them.

        Returns
        -------
        MaskOutput

        Raises
        ------
        ValueError
            If there are several images and no ``image_index``, or it is not of N prompts.
        """
        count = prompts.tokens.shape[0]
        features = image.features
        if image_index is not None and image_index.shape != (count,):
            raise ValueError(
                f"image_index must have shape ({count},), one number for each prompt, "
                f"got {tuple(image_index.shape)}"
            )
        if image_index is None and features.embedding.shape[0] != 1:
            raise ValueError(
                "image_index must say which image each prompt belongs to, "
                f"got None for {features.embedding.shape[0]} images"
            )
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(count, -1, -1), prompts.tokens], dim=1)
        appearance = None
        if self.skips is not None and prompts.drawn is not None:
            appearance = self.appearance(features.skips, prompts.drawn, image_index)
            tokens = torch.cat([tokens, appearance], dim=1)
        tokens, pixels = self.transformer(
            self._asked(image, prompts, image_index), image.positions, tokens
        )
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        if appearance is not None:
            mask_tokens = mask_tokens + appearance
        mask_tokens = mask_tokens[:, which]
        iou_predictions = self.iou_prediction_head(tokens[:, 0])[:, which]
        mlps = list(self.output_hypernetworks_mlps)[which]
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(mlps)], dim=1)
        if self.skips is None and self.mask_scorer is None:
            size_hw = features.embedding.shape[-2:]
            if torch.is_grad_enabled() or min_predicted_iou == -math.inf:
                return MaskOutput(self._draw(pixels, weights, size_hw), iou_predictions)
            draws = (iou_predictions >= min_predicted_iou).any(dim=1)
            return MaskOutput(self._draw_some(pixels, weights, size_hw, draws), iou_predictions)
        asked = _Asked(pixels, weights, mask_tokens, iou_predictions)
        if _may_draw_windows(image, prompts.drawn):
            assert prompts.drawn is not None
            return self._finish_in_windows(asked, image, prompts.drawn, image_index)
        return self._finish(asked, image, prompts.drawn, image_index)

    def _finish(
        self,
        asked: _Asked,
        image: PreparedImage,
        drawn: DrawnPrompts | None,
        image_index: Tensor | None,
    ) -> MaskOutput:
        """Draw whole masks of upscaled features, and score them."""
        upscaled = self._upscale(asked.pixels, image, drawn, image_index)
        logits = _products(upscaled, asked.weights)
        return MaskOutput(logits, self._scored(asked, logits, upscaled))

    def _scored(
        self, asked: _Asked, logits: Tensor, upscaled: Tensor, counts: Tensor | None = None
    ) -> Tensor:
        """Return the predicted IoU (N, C)."""
        if self.mask_scorer is None:
            return asked.guesses
        seen = self.mask_scorer(logits, upscaled, asked.mask_tokens, counts)
        return torch.sigmoid((asked.guesses + seen).float())

    def _finish_in_windows(
        self,
        asked: _Asked,
        image: PreparedImage,
        drawn: DrawnPrompts,
        image_index: Tensor | None,
    ) -> MaskOutput:
        """Draw the masks of prompts one by one, where they are expected, and score them.

        The mask of an object that turns out to be larger is drawn as a whole.
        """
        outputs: list[MaskOutput] = []
        for number in range(len(asked.pixels)):
            own, own_drawn = asked.at(number), drawn.at(number)
            own_image = image_index if image_index is None else image_index[number : number + 1]
            output = self._finish_window(own, image, own_drawn, own_image)
            outputs.append(output or self._finish(own, image, own_drawn, own_image))
        if len(outputs) == 1:
            return outputs[0]
        return MaskOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))

    def _finish_window(
        self, asked: _Asked, image: PreparedImage, drawn: DrawnPrompts, image_index: Tensor | None
    ) -> MaskOutput | None:
        """Draw the masks of one prompt where they are expected; None if they may be larger.

        What is beyond the window is taken to be as what is at its edge, by the mean of the logits,
        and in the score.
        """
        assert drawn.expected is not None
        window = drawn.expected[0]
        height, width = image.features.embedding.shape[-2:]
        if window is None or not is_small(window, (height, width)):
            return None
        cut = _cut_image(image, image_index, window)
        pixels = cut_cells(asked.pixels, (height, width), window)
        drawn = drawn.within(window)
        upscaled = self._upscale(pixels, cut, drawn, None)
        logits = _products(upscaled, asked.weights)
        edge, counts = window_edge(window, (height, width))
        at_edge = logits.flatten(2)[..., edge]
        if bool((at_edge > LEAST_DOUBT).any()):
            return None
        scores = self._scored(asked, logits, upscaled, counts)
        whole = at_edge.mean(-1)[..., None, None].repeat(1, 1, 4 * height, 4 * width)
        rows, columns = sound_part(window, (height, width))
        top, left = 4 * window.top, 4 * window.left
        into_rows = slice(top + rows.start, top + rows.stop)
        into_columns = slice(left + columns.start, left + columns.stop)
        whole[..., into_rows, into_columns] = logits[..., rows, columns]
        return MaskOutput(whole, scores)

    def _asked(
        self, image: PreparedImage, prompts: EncodedPrompts, image_index: Tensor | None
    ) -> Tensor | SharedImage:
        """Return the embedding as the prompts change it."""
        if image.shared is not None and prompts.is_empty and not torch.is_grad_enabled():
            return image.shared
        asked: Tensor = self.fusion(
            per_prompt(image.features.embedding, image_index) + prompts.dense
        )
        return asked

    def _draw_some(
        self, pixels: Tensor, weights: Tensor, size_hw: Sequence[int], draws: Tensor
    ) -> Tensor:
        """Return the logits (N, C, 4 h, 4 w) of the prompts that are drawn, of SAM's decoders.

        Parameters
        ----------
        pixels : Tensor of shape (N, h * w, D)
        weights : Tensor of shape (N, C, F)
        size_hw : (int, int)
            Rows and columns of the embedding.
        draws : Tensor of shape (N,), bool
        """
        if draws.all():
            return self._draw(pixels, weights, size_hw)
        height, width = size_hw
        nothing = weights.new_full((1, 1, 1, 1), -math.inf)
        nothing = nothing.expand(*weights.shape[:2], 4 * height, 4 * width)
        if not draws.any():
            return nothing
        logits = nothing.contiguous()
        logits[draws] = self._draw(pixels[draws], weights[draws], size_hw)
        return logits

    def _draw(self, pixels: Tensor, weights: Tensor, size_hw: Sequence[int]) -> Tensor:
        """Return the logits of all prompts; the others are as in :meth:`_draw_some`."""
        grow_middle, norm, activation, grow_fine, _ = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        middle = activation(norm.normalise_rows(split_cells(pixels, grow_middle)))
        fine = activation(split_cells(middle, grow_fine)).flatten(1, 3)
        # Put in order afterwards, when a pixel is a logit for every mask and not a feature vector.
        logits = torch.bmm(fine, weights.transpose(1, 2)).unflatten(1, (-1, 4, 4))
        height, width = size_hw
        return cells_to_map(logits, (height, width)).contiguous()

    def _upscale(
        self,
        pixels: Tensor,
        prepared: PreparedImage,
        drawn: DrawnPrompts | None,
        image_index: Tensor | None,
    ) -> Tensor:
        """Map rows of pixels (N, h * w, D) to (N, F, 4 h, 4 w)."""
        height, width = prepared.features.embedding.shape[-2:]
        size_hw = (height, width)
        grow_middle, norm, activation, grow_fine, _ = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        if self.skips is None:
            middle = activation(norm.normalise_rows(split_cells(pixels, grow_middle)))
            return cells_to_map(activation(split_cells(middle, grow_fine)), size_hw)
        middle_skip, fine_skip = prepared.projected_skips
        # Added in place: for a new map of this size, memory costs more than the sum.
        middle = split_cells(pixels, grow_middle, with_bias=False)
        middle = middle.add_(per_prompt(middle_skip, image_index))
        middle = activation(norm.normalise_rows(middle))
        image = cells_to_map(split_cells(middle, grow_fine, with_bias=False), size_hw)
        image = image.add_(per_prompt(fine_skip, image_index))
        if drawn is not None:
            image = _add_drawn(image, drawn)
        return self.skips.refine(image.relu_())


class _Asked(NamedTuple):
    """What the transformer says of N prompts; shapes as in :class:`MaskDecoder`.

    ``pixels`` (N, h * w, D), ``weights`` (N, C, F) of the masks, ``mask_tokens`` (N, C, D) and
    ``guesses`` (N, C) of their IoU, logits where masks are scored.
    """

    pixels: Tensor
    weights: Tensor
    mask_tokens: Tensor
    guesses: Tensor

    def at(self, number: int) -> _Asked:
        """Return those of one prompt."""
        return _Asked(*(values[number : number + 1] for values in self))


def _products(upscaled: Tensor, weights: Tensor) -> Tensor:
    """Multiply features (N, F, H, W) with what makes masks of them: (N, C, H, W)."""
    # By rows of pixels, as they lie in memory: bfloat16 is nine times as slow the other way.
    rows = upscaled.permute(0, 2, 3, 1).flatten(1, 2) @ weights.transpose(1, 2)
    logits: Tensor = rows.transpose(1, 2).unflatten(2, tuple(upscaled.shape[-2:])).contiguous()
    return logits


def _may_draw_windows(image: PreparedImage, drawn: DrawnPrompts | None) -> bool:
    """Tell whether masks may be drawn where they are expected alone."""
    return drawn is not None and drawn.expected is not None and bool(image.projected_skips)


def _cut_image(image: PreparedImage, image_index: Tensor | None, window: Window) -> PreparedImage:
    """Cut a window out of a prompt's picture."""
    number = 0 if image_index is None else int(image_index)
    height, width = image.features.embedding.shape[-2:]
    middle, fine = (skip[number : number + 1] for skip in image.projected_skips)
    top, left, bottom, right = window
    embedding = image.features.embedding[number : number + 1, :, top:bottom, left:right]
    skips = (
        cut_cells(middle, (height, width), window),
        fine[:, :, 4 * top : 4 * bottom, 4 * left : 4 * right],
    )
    return PreparedImage(ImageFeatures(embedding), image.positions, skips)


def _add_drawn(image: Tensor, drawn: DrawnPrompts) -> Tensor:
    """Add the skip features of drawn prompts to maps (N, S, H, W), in place."""
    if drawn.corners_yx is None:
        return image.add_(drawn.skip)
    height, width = drawn.skip.shape[-2:]
    for whole, part, (y, x) in zip(image, drawn.skip, drawn.corners_yx, strict=True):
        whole[:, y : y + height, x : x + width] += part
    return image
