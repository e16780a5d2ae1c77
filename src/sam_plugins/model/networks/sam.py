"""The promptable model, its parts injected (Kirillov et al. 2023, section 3)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.instance_decoder import InstanceDecoder, InstanceMaps
from sam_plugins.model.networks.mask_decoder import ALL_MASKS, MaskDecoder, MaskOutput
from sam_plugins.model.networks.prompt_encoder import PromptEncoder


class Sam(nn.Module):
    """Image encoder, prompt encoder, mask decoder and, for ours, an instance decoder.

    Everything here is in pixels of the network's padded input; pictures of people are turned into
    that by :mod:`sam_plugins.model.inference`.

    Shape legend: B images, N prompts, K points, C masks, D channels, H and W of the padded input.

    Parameters
    ----------
    config : SamConfig
        What the parts were built from.
    image_encoder : nn.Module
        (B, 3, H, W) to :class:`~sam_plugins.model.networks.features.ImageFeatures`.
    prompt_encoder : PromptEncoder
    mask_decoder : MaskDecoder
    instance_decoder : InstanceDecoder, optional
    """

    def __init__(
        self,
        config: SamConfig,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        instance_decoder: InstanceDecoder | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.instance_decoder = instance_decoder

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode normalised pictures of shape (B, 3, H, W), once for any number of prompts."""
        features: ImageFeatures = self.image_encoder(images)
        return features

    def prepare(
        self, features: ImageFeatures, origin_xy: tuple[float, float] = (0.0, 0.0)
    ) -> PreparedImage:
        """Do the part of :meth:`decode` that is the same for every prompt about a picture."""
        height, width = features.embedding.shape[-2:]
        positions = self.prompt_encoder.positional_encoding((height, width), origin_xy)
        encoder = self.prompt_encoder
        empty = None
        if encoder.prompt_map is None:
            empty = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return self.mask_decoder.prepare(features, positions, empty)

    def decode(
        self,
        image: ImageFeatures | PreparedImage,
        *,
        points_xy: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        mask_logits: Tensor | None = None,
        text_embeddings: Tensor | None = None,
        image_index: Tensor | None = None,
        origin_xy: tuple[float, float] = (0.0, 0.0),
        which: slice = ALL_MASKS,
        min_predicted_iou: float = -math.inf,
        draws_whole: bool = False,
    ) -> MaskOutput:
        """Predict all C masks of N prompts, or some.

        Parameters
        ----------
        image : ImageFeatures or PreparedImage
            From :meth:`encode`; from :meth:`prepare`, with the same origin, to answer one prompt
            after the other.
        points_xy, point_labels, boxes_xyxy, mask_logits, text_embeddings : Tensor, optional
            See :meth:`PromptEncoder.forward
            <sam_plugins.model.networks.prompt_encoder.PromptEncoder.forward>`.
        image_index : Tensor of shape (N,), optional
            The image of every prompt; needed with more than one image.
        origin_xy : tuple of float
            Where the input lies within the reference square of the positional encoding; training
            moves it about, so that a crop teaches every place.
        which, min_predicted_iou
            See :meth:`MaskDecoder.forward
            <sam_plugins.model.networks.mask_decoder.MaskDecoder.forward>`.
        draws_whole : bool
            Compute every logit, also far from the prompts, as with gradients.

        Returns
        -------
        MaskOutput
            Mask 0 is for clear prompts, masks 1 to C - 1 are for ambiguous ones.

        Raises
        ------
        ValueError
            If no part of a prompt is given (N may be 0), the parts are not of as many prompts, or
            there are several images without ``image_index``.
        """
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image, origin_xy)
        height, width = prepared.features.embedding.shape[-2:]
        prompts = self.prompt_encoder(
            size_hw=(height, width),
            points_xy=points_xy,
            point_labels=point_labels,
            boxes_xyxy=boxes_xyxy,
            mask_logits=mask_logits,
            text_embeddings=text_embeddings,
            origin_xy=origin_xy,
        )
        if draws_whole and prompts.drawn is not None:
            prompts = prompts._replace(drawn=prompts.drawn._replace(expected=None))
        output: MaskOutput = self.mask_decoder(
            prepared, prompts, image_index, which=which, min_predicted_iou=min_predicted_iou
        )
        return output

    def instances(self, features: ImageFeatures) -> InstanceMaps:
        """Predict where objects are.

        Raises
        ------
        ValueError
            If the model has no instance decoder.
        """
        if self.instance_decoder is None:
            raise ValueError("this model has no instance decoder: use a grid of points instead")
        maps: InstanceMaps = self.instance_decoder(features)
        return maps
