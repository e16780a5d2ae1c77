"""What a back end is: a way to run an image encoder that may be missing, fail, or be wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.features import ImageFeatures

Encoder = Callable[[Tensor], ImageFeatures]
"""From normalised pictures (1, 3, H, W) to their features, in the type of the pictures."""


@dataclass(frozen=True)
class Way:
    """A back end.

    Parameters
    ----------
    name : str
        As people choose it.
    build : callable
        From an image encoder, an example of its input and a folder for exported files to an
        encoder; any exception means that it cannot be had.
    packages : tuple of str
        What must be installed.
    """

    name: str
    build: Callable[[nn.Module, Tensor, Path], Encoder]
    packages: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether everything that it needs can be imported."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)


class Exportable(nn.Module):
    """An image encoder with float32 in and out, as a function of tensors alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (1, 3, H, W) to the embedding and the finer maps."""
        features: ImageFeatures = self.encoder(images)
        return (features.embedding, *features.skips)


def features_of(tensors: list[Tensor], dtype: torch.dtype) -> ImageFeatures:
    """Return the outputs of an :class:`Exportable` as features."""
    embedding, *skips = (tensor.to(dtype) for tensor in tensors)
    return ImageFeatures(embedding, tuple(skips))
