"""Parts of a network under the signatures of segment_anything's.

A part here is a second face of one of ours: another class around the same parameters, buffers and
children. What moves, trains or loads one, does so with the other, and the names of the weights are
the same.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.image_encoder_pyramid import PyramidImageEncoder
from sam_plugins.model.networks.image_encoder_tiny_vit import TinyVitImageEncoder
from sam_plugins.model.networks.image_encoder_vit import VitImageEncoder
from sam_plugins.model.networks.mask_decoder import MaskDecoder
from sam_plugins.model.networks.prompt_encoder import (
    EncodedPrompts,
    PromptEncoder,
    RandomFourierFeatures,
)

_Face = TypeVar("_Face", bound=nn.Module)
Points = tuple[Tensor, Tensor]


def face_of(module: nn.Module, face_class: type[_Face]) -> _Face:
    """Return ``module`` as another class that shares all it has."""
    face = face_class.__new__(face_class)
    object.__setattr__(face, "__dict__", module.__dict__)
    return face


class EncoderFace(nn.Module):
    """An image encoder that returns the embedding alone."""

    img_size: int

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised, padded pictures (B, 3, H, W) to embeddings (B, D, h, w)."""
        features: ImageFeatures = super().forward(x)
        return features.embedding


class VitFace(EncoderFace, VitImageEncoder):  # type: ignore[misc]
    """SAM's image encoder."""


class TinyVitFace(EncoderFace, TinyVitImageEncoder):  # type: ignore[misc]
    """MobileSAM's image encoder."""


class PyramidFace(EncoderFace, PyramidImageEncoder):  # type: ignore[misc]
    """The shipped model's image encoder, without the finer maps that it also returns."""


_FACES: dict[type[nn.Module], type[EncoderFace]] = {
    VitImageEncoder: VitFace,
    TinyVitImageEncoder: TinyVitFace,
    PyramidImageEncoder: PyramidFace,
}


def encoder_face(encoder: nn.Module, image_size: int) -> EncoderFace:
    """Return the face of an image encoder."""
    face = face_of(encoder, _FACES[type(encoder)])
    face.img_size = image_size
    return face


class PositionFace(RandomFourierFeatures):
    """The positional encoding."""

    def forward(self, positions_xy: Tensor | tuple[int, int]) -> Tensor:
        """Encode positions (..., 2) in [0, 1], or the cells of a grid (h, w) as (D, h, w)."""
        if isinstance(positions_xy, Tensor):
            return super().forward(positions_xy)
        matrix = self.positional_encoding_gaussian_matrix
        y, x = (
            (torch.arange(side, device=matrix.device, dtype=matrix.dtype) + 0.5) / side
            for side in positions_xy
        )
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        return super().forward(torch.stack([grid_x, grid_y], dim=-1)).permute(2, 0, 1)

    def forward_with_coords(self, coords_input: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Encode pixels (B, N, 2) of a picture of a size (H, W)."""
        size_xy = coords_input.new_tensor([image_size[1], image_size[0]])
        return super().forward((coords_input / size_xy).to(torch.float32))

    def _pe_encoding(self, coords: Tensor) -> Tensor:
        """Encode positions in [0, 1]; segment_anything's export to ONNX calls this."""
        return super().forward(coords)


class PromptEncoderFace(PromptEncoder):
    """The prompt encoder."""

    num_point_embeddings = 4

    @property
    def pe_layer(self) -> PositionFace:  # type: ignore[override]
        """The positional encoding."""
        return face_of(self._modules["pe_layer"], PositionFace)  # type: ignore[arg-type]

    @property
    def image_embedding_size(self) -> tuple[int, int]:
        """Rows and columns of the image embedding."""
        side = self.image_size // self.stride
        return side, side

    @property
    def input_image_size(self) -> tuple[int, int]:
        """Height and width of the padded input."""
        return self.image_size, self.image_size

    @property
    def mask_input_size(self) -> tuple[int, int]:
        """Height and width of masks that are fed back."""
        rows, columns = self.image_embedding_size
        return 4 * rows, 4 * columns

    def get_dense_pe(self) -> Tensor:
        """Return the positional encoding (1, D, h, w) of the image embedding's cells."""
        return self.positional_encoding(self.image_embedding_size)

    def forward(  # type: ignore[override]
        self, points: Points | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Encode prompts in pixels of the padded input.

        Parameters
        ----------
        points : (Tensor of shape (B, N, 2), Tensor of shape (B, N)), optional
            Places, and labels: 1 on the object, 0 beside it, -1 for padding.
        boxes : Tensor of shape (B, 4), optional
        masks : Tensor of shape (B, 1, H, W), optional
            Low-resolution logits of an earlier answer.

        Returns
        -------
        sparse : Tensor of shape (B, T, D)
            Tokens.
        dense : Tensor of shape (B, D, h, w)
            Added to the image embedding.

        Raises
        ------
        UnsuitableModelError
            If the model's prompts are more than these two.
        """
        if self.prompt_map is not None:
            raise UnsuitableModelError(_MORE_THAN_SAM)
        size_hw = self.image_embedding_size
        if points is None and boxes is None and masks is None:
            weight = self.no_mask_embed.weight
            empty = weight.reshape(1, -1, 1, 1).expand(-1, -1, *size_hw)
            return weight.new_zeros(1, 0, self.embed_dim), empty
        encoded: EncodedPrompts = super().forward(
            size_hw=size_hw,
            points_xy=None if points is None else points[0],
            point_labels=None if points is None else points[1],
            boxes_xyxy=None if boxes is None else boxes.reshape(-1, 4),
            mask_logits=masks,
        )
        return encoded.tokens, encoded.dense


class MaskDecoderFace(MaskDecoder):
    """The mask decoder."""

    @property
    def num_multimask_outputs(self) -> int:
        """How many masks stand for the readings of one click; the single one is not counted."""
        return self.num_mask_tokens - 1

    @property
    def transformer_dim(self) -> int:
        """Channels of its tokens."""
        return self.mask_tokens.embedding_dim

    def forward(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks and their IoU.

        Parameters
        ----------
        image_embeddings : Tensor of shape (1, D, h, w) or (B, D, h, w)
            Of one picture for all prompts, or of one for each.
        image_pe : Tensor of shape (1, D, h, w)
        sparse_prompt_embeddings : Tensor of shape (B, T, D)
        dense_prompt_embeddings : Tensor of shape (B, D, h, w)
        multimask_output : bool
            Three masks for each prompt, or one.

        Returns
        -------
        masks : Tensor of shape (B, C, 4 h, 4 w)
            Low-resolution logits.
        iou_predictions : Tensor of shape (B, C)
        """
        masks, iou_predictions = self.predict_masks(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        )
        which = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, which], iou_predictions[:, which]

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict all masks, the single one first; parameters as in :meth:`forward`.

        Raises
        ------
        ValueError
            If there are neither one picture nor as many as prompts.
        UnsuitableModelError
            If the model's features are more than the embedding.
        """
        if self.skips is not None:
            raise UnsuitableModelError(_MORE_THAN_SAM)
        pictures, count = len(image_embeddings), len(sparse_prompt_embeddings)
        if pictures not in {1, count}:
            raise ValueError(
                "image_embeddings must be of one picture, or of one for each of "
                f"{count} prompts, got {pictures}"
            )
        dense = dense_prompt_embeddings.expand(count, -1, -1, -1)
        index = None if pictures == 1 else torch.arange(count, device=image_embeddings.device)
        output: Any = super().forward(
            self.prepare(ImageFeatures(image_embeddings), image_pe),
            EncodedPrompts(sparse_prompt_embeddings, dense),
            index,
        )
        return output.logits, output.iou_predictions


_MORE_THAN_SAM = (
    "this model's parts pass on more than SAM's do (finer maps, drawn prompts), so they cannot be "
    "called one by one: use SamPredictor, the whole model, or encode_image and predict_masks"
)
