"""Which layer of an image encoder a weight belongs to, and how often its branches are dropped."""

from __future__ import annotations

import re

import torch
from torch import nn

from sam_plugins.model.networks.image_encoder_tiny_vit import TinyVitImageEncoder
from sam_plugins.model.networks.image_encoder_vit import VitImageEncoder
from sam_plugins.model.networks.layers import DropPath
from sam_plugins.model.networks.sam import Sam

_VIT_BLOCK = re.compile(r"blocks\.(\d+)\.")
_TINY_BLOCK = re.compile(r"layers\.(\d+)\.(?:blocks\.(\d+)\.|downsample\.)")
_FIRST = ("patch_embed.", "pos_embed")


def learning_rate_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor on the learning rate of every parameter.

    Layers are counted as ViTDet does (Li et al. 2022; after BEiT, Bao et al. 2022): patches and
    positions first, then block by block; the neck and everything after it have a factor of 1.

    Parameters
    ----------
    network : nn.Module
        A :class:`~sam_plugins.model.networks.sam.Sam` where ``decay`` is not 1.
    decay : float
        From each layer to the one before it.

    Returns
    -------
    dict of str to float
        By the name of the parameter.

    Raises
    ------
    ValueError
        If ``decay`` is not 1 and the image encoder is no transformer.
    """
    prefix, encoder = "image_encoder.", getattr(network, "image_encoder", None)
    scales = {name: 1.0 for name, _ in network.named_parameters()}
    if decay == 1:
        return scales
    if isinstance(encoder, VitImageEncoder):
        starts, pattern = list(range(len(encoder.blocks))), _VIT_BLOCK
        last = len(encoder.blocks) + 1
    elif isinstance(encoder, TinyVitImageEncoder):
        depths = [
            len(stage.blocks) for stage in encoder.layers if isinstance(stage.blocks, nn.ModuleList)
        ]
        starts, pattern = [sum(depths[:index]) for index in range(len(depths))], _TINY_BLOCK
        last = sum(depths) + 1
    else:
        raise ValueError(
            f"layer_decay must be 1 for an image encoder without transformer blocks, got {decay}"
        )
    for name in scales:
        if not name.startswith(prefix):
            continue
        own = name.removeprefix(prefix)
        found = pattern.match(own)
        if own.startswith(_FIRST):
            scales[name] = decay**last
        elif found is not None:
            block = starts[int(found[1])]
            if pattern is _TINY_BLOCK:
                stage = int(found[1])
                block = starts[stage] + int(found[2]) if found[2] else starts[stage + 1] - 1
            scales[name] = decay ** (last - 1 - block)
    return scales


def set_drop_path(network: Sam, rate: float) -> None:
    """Drop the branches of an encoder's blocks at rates that rise from 0 to ``rate`` with depth.

    Stochastic depth with a linear rule (Huang et al. 2016).

    Raises
    ------
    ValueError
        If ``rate`` is above 0 and the image encoder has no such branches.
    """
    drops = [part for part in network.image_encoder.modules() if isinstance(part, DropPath)]
    if not drops:
        if rate > 0:
            raise ValueError(
                "drop_path must be 0 or None for an image encoder without residual "
                f"branches that can be dropped, got {rate}"
            )
        return
    for drop, own in zip(drops, torch.linspace(0, rate, len(drops)).tolist(), strict=True):
        drop.rate = own
