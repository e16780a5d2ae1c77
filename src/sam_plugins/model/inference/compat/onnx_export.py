"""What segment_anything exports to ONNX: prompts and an embedding in, masks of the picture out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.compat.model import SamModel

_SINGLE_MASK_BONUS = 1000.0
_POINTS_THAT_ARE_CLEAR = 2.5
"""With a padding point, two clicks or a click and a box are more points than this."""


class SamOnnxModel(nn.Module):
    """Prompt encoder, mask decoder and resizing as one graph without choices, to be traced.

    Parameters
    ----------
    model : SamModel
        From ``sam_model_registry``; one with SAM's parts.
    return_single_mask : bool
        Choose among the masks in the graph: the first one for clear prompts, otherwise the best.
    use_stability_score : bool
        Rank masks by stability instead of the predicted IoU.
    return_extra_metrics : bool
        Also return stability and area of every mask.

    Raises
    ------
    UnsuitableModelError
        If the model's decoder takes more than an embedding.
    """

    def __init__(
        self,
        model: SamModel,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        if not model.is_sam:
            raise UnsuitableModelError(
                "only SAM's architecture can be exported so: this model's decoder takes finer maps "
                "beside the embedding"
            )
        self.model = model
        self.img_size = model.image_encoder.img_size
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.stability_score_offset = 1.0
        self.return_extra_metrics = return_extra_metrics

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Answer the prompts of B objects.

        Parameters
        ----------
        image_embeddings : Tensor of shape (1, D, h, w)
        point_coords : Tensor of shape (B, N, 2), float
            Pixels of the resized picture. A box is two points; without one, a padding point comes
            last.
        point_labels : Tensor of shape (B, N), float
            1 on the object, 0 beside it, -1 padding, 2 and 3 the corners of a box.
        mask_input : Tensor of shape (1, 1, 4 h, 4 w), float
            Logits of an earlier answer, or zeros.
        has_mask_input : Tensor of shape (1,), float
            1 where ``mask_input`` counts, otherwise 0.
        orig_im_size : Tensor of shape (2,), float
            Height and width of the picture.

        Returns
        -------
        masks : Tensor of shape (B, C, H, W), float
            Logits at the picture's size.
        scores : Tensor of shape (B, C)
        low_res_masks : Tensor of shape (B, C, 4 h, 4 w)
            Last; with extra metrics, stability and areas (B, C) come before them.
        """
        decoder, encoder = self.model.mask_decoder, self.model.prompt_encoder
        masks, scores = decoder.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=self._embed_points(point_coords, point_labels),
            dense_prompt_embeddings=self._embed_mask(mask_input, has_mask_input),
        )
        if self.use_stability_score:
            scores = self._stability(masks)
        if self.return_single_mask:
            masks, scores = _choose(masks, scores, point_coords.shape[1])
        drawn = self._draw(masks, orig_im_size)
        if not self.return_extra_metrics:
            return drawn, scores, masks
        areas = (drawn > self.model.mask_threshold).sum(dim=(-2, -1))
        return drawn, scores, self._stability(drawn), areas, masks

    def _embed_points(self, points_xy: Tensor, labels: Tensor) -> Tensor:
        """Return tokens (B, N, D): where a point is, unless it is padding, and what it means."""
        encoder = self.model.prompt_encoder
        tables = (encoder.not_a_point_embed, *encoder.point_embeddings)
        meanings = torch.cat([next(table.parameters()) for table in tables])
        places = encoder.pe_layer._pe_encoding((points_xy + 0.5) / self.img_size)
        is_point = (labels != -1)[..., None].to(places.dtype)
        return places * is_point + meanings[labels.to(torch.int64) + 1]

    def _embed_mask(self, logits: Tensor, is_given: Tensor) -> Tensor:
        """Return the dense prompt (1, D, h, w)."""
        encoder = self.model.prompt_encoder
        none = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        given: Tensor = encoder.mask_downscaling(logits)
        return none + is_given.reshape(-1, 1, 1, 1) * (given - none)

    def _stability(self, logits: Tensor) -> Tensor:
        """Return the share of a mask that stays when its threshold moves up and down."""
        threshold, offset = self.model.mask_threshold, self.stability_score_offset
        inner = (logits > threshold + offset).sum(dim=(-2, -1)).to(torch.float32)
        outer = (logits > threshold - offset).sum(dim=(-2, -1)).to(torch.float32)
        return inner / outer

    def _draw(self, logits: Tensor, size_hw: Tensor) -> Tensor:
        """Bring masks to the picture's size; sizes stay tensors, so that a trace keeps them."""
        padded = functional.interpolate(
            logits, (self.img_size, self.img_size), mode="bilinear", align_corners=False
        )
        exact = size_hw.to(torch.float32)
        resized = torch.floor(exact * (self.img_size / exact.max()) + 0.5).to(torch.int64)
        height, width = size_hw.to(torch.int64)
        inside = padded[..., : resized[0], : resized[1]]
        return functional.interpolate(inside, (height, width), mode="bilinear", align_corners=False)


def _choose(masks: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return one mask of each object, (B, 1, ...), without a branch in the graph."""
    bonus = torch.zeros_like(scores)
    bonus[:, 0] = (count - _POINTS_THAT_ARE_CLEAR) * _SINGLE_MASK_BONUS
    best = (scores + bonus).argmax(dim=1)
    each = torch.arange(masks.shape[0], device=masks.device)
    return masks[each, best][:, None], scores[each, best][:, None]
