"""From the numbers of a config to a network with fresh weights."""

from __future__ import annotations

from torch import nn

from sam_plugins.model.networks.config import PyramidConfig, SamConfig, TinyVitConfig, VitConfig
from sam_plugins.model.networks.image_encoder_pyramid import PyramidImageEncoder
from sam_plugins.model.networks.image_encoder_tiny_vit import TinyVitImageEncoder
from sam_plugins.model.networks.image_encoder_vit import VitImageEncoder
from sam_plugins.model.networks.instance_decoder import InstanceDecoder
from sam_plugins.model.networks.mask_decoder import MaskDecoder
from sam_plugins.model.networks.prompt_encoder import PromptEncoder
from sam_plugins.model.networks.sam import Sam


def build_image_encoder(config: VitConfig | TinyVitConfig | PyramidConfig) -> nn.Module:
    """Build the image encoder of a config."""
    if isinstance(config, PyramidConfig):
        return PyramidImageEncoder(config)
    if isinstance(config, TinyVitConfig):
        return TinyVitImageEncoder(config)
    return VitImageEncoder(config)


def build_sam(config: SamConfig) -> Sam:
    """Build a promptable model with fresh weights, in training mode.

    Parameters
    ----------
    config : SamConfig

    Returns
    -------
    Sam
        Its state dict has the official names. Under ``torch.device("meta")`` no memory is taken.

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    """
    encoder = config.image_encoder
    skip_dims = encoder.skip_dims if isinstance(encoder, PyramidConfig) else ()
    prompts = config.prompt_encoder
    prompt_map_dims = prompts.prompt_map_dims
    if prompt_map_dims is not None and prompt_map_dims[0] != config.mask_decoder.upscale_dims[1]:
        raise ValueError(
            "the prompt map must be as wide as the decoder's finest map, got "
            f"{prompt_map_dims[0]} and {config.mask_decoder.upscale_dims[1]} channels"
        )
    instances = config.instance_decoder
    return Sam(
        config,
        build_image_encoder(encoder),
        PromptEncoder(
            encoder.out_dim,
            encoder.image_size,
            mask_in_dim=prompts.mask_in_dim,
            prompt_map_dims=prompt_map_dims,
            text_dim=prompts.text_dim,
        ),
        MaskDecoder(config.mask_decoder, encoder.out_dim, skip_dims),
        None
        if instances is None
        else InstanceDecoder(encoder.out_dim, skip_dims, instances.hidden_dim),
    )
