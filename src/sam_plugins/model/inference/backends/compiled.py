"""torch.compile: kernels made for a network, where there is a compiler for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from sam_plugins.model.inference.backends.ways import Encoder, Way
from sam_plugins.model.networks.features import ImageFeatures


def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
    """Compile an image encoder; PyTorch keeps what it made in its own cache.

    Raises
    ------
    RuntimeError
        If the device needs a C++ compiler and there is none.
    """
    del folder
    if example.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise RuntimeError("torch.compile needs a C++ compiler, and there is none")
    compiled = torch.compile(encoder)

    def encode(images: Tensor) -> ImageFeatures:
        # Gradients off, but not in inference mode, for whose tensors everything is made again.
        with torch.inference_mode(mode=False), torch.no_grad():
            features: ImageFeatures = compiled(images.clone())
            return features

    return encode


COMPILE = Way("compile", build)
