"""Segment_anything's registry: from the name of an architecture to a function that builds it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NoReturn

from sam_plugins.model.inference.compat.model import SamModel
from sam_plugins.model.inference.loading import Model, network_of
from sam_plugins.model.networks.builders import build_sam as build_network
from sam_plugins.model.networks.config import (
    MOBILE_SAM,
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    SamConfig,
)
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.registry import DEFAULT_MODEL, model_entries

Checkpoint = str | os.PathLike[str]

ARCHITECTURES: dict[str, SamConfig] = {
    "vit_h": SAM_VIT_H,
    "vit_l": SAM_VIT_L,
    "vit_b": SAM_VIT_B,
    "vit_t": MOBILE_SAM,
}


class ModelRegistry(dict[str, Callable[..., SamModel]]):
    """A dictionary that says what it holds when it is asked for something else."""

    def __missing__(self, key: str) -> NoReturn:
        """Refuse an unknown name."""
        raise KeyError(f"no model type is called {key!r}; there are {', '.join(self)}")


def build_default(checkpoint: Checkpoint | None = None) -> SamModel:
    """Return the shipped model, or whatever model a file holds.

    Parameters
    ----------
    checkpoint : str or path, optional
        File of weights; its architecture is recognised.
    """
    return _load(DEFAULT_MODEL if checkpoint is None else _path(checkpoint))


def build_architecture(name: str, checkpoint: Checkpoint | None = None) -> SamModel:
    """Return a model of one architecture on the CPU.

    Parameters
    ----------
    name : {"vit_h", "vit_l", "vit_b", "vit_t"}
    checkpoint : str or path, optional
        File of weights; random ones by default.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    CheckpointError
        If the file is damaged, foreign, or would run code.
    """
    config = ARCHITECTURES[name]
    if checkpoint is None:
        return SamModel(Model(build_network(config).eval(), f"{name}-random"))
    path = _path(checkpoint)
    return _load(path, name)


def build_published(name: str, checkpoint: Checkpoint | None = None) -> SamModel:
    """Return published weights by the name that :func:`~sam_plugins.load_model` knows.

    Raises
    ------
    ValueError
        If a file is given beside the name.
    WeightsError
        If the weights cannot be had.
    """
    if checkpoint is not None:
        raise ValueError(
            f"checkpoint must not be given for {name!r}, which stands for published weights, got "
            f"{os.fspath(checkpoint)}; to load a file take 'default', which recognises its "
            f"architecture, or one of {', '.join(ARCHITECTURES)}"
        )
    return _load(name)


def _load(name_or_path: Checkpoint, architecture: str | None = None) -> SamModel:
    """Load weights that can be trained further, as segment_anything's can."""
    checkpoint = load_checkpoint(name_or_path)
    if architecture is not None:
        found = architecture_of(checkpoint.config)
        if found != architecture:
            remedy = f"use {found!r}" if found in ARCHITECTURES else "use 'default'"
            raise ValueError(
                f"checkpoint must hold a {architecture!r}, got {checkpoint.path}, which holds "
                f"{found!r}; {remedy}"
            )
    network = network_of(checkpoint).requires_grad_(requires_grad=True)
    return SamModel(Model(network, checkpoint.model_id, checkpoint.path, checkpoint.passport))


def architecture_of(config: SamConfig) -> str:
    """Return the key of an architecture, or the kind of its image encoder; sizes may differ."""
    for name, known in ARCHITECTURES.items():
        size = config.image_encoder.image_size
        if config.image_encoder == replace(known.image_encoder, image_size=size):
            return name
    return f"another {config.image_encoder.kind}"


def _path(checkpoint: Checkpoint) -> os.PathLike[str]:
    """Return a path, so that a file is never taken for the name of a model."""
    from pathlib import Path

    return Path(checkpoint).expanduser()


sam_model_registry = ModelRegistry(
    {DEFAULT_MODEL: build_default}
    | {name: partial(build_architecture, name) for name in ARCHITECTURES}
    | {
        entry.name: partial(build_published, entry.name)
        for entry in model_entries()
        if entry.name != DEFAULT_MODEL
    }
)
"""Functions of one argument, ``checkpoint=None``, by the name of a model type."""

build_sam_vit_h = sam_model_registry["vit_h"]
build_sam_vit_l = sam_model_registry["vit_l"]
build_sam_vit_b = sam_model_registry["vit_b"]
build_sam = build_sam_vit_h
