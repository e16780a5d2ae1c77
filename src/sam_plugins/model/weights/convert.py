"""Any readable checkpoint, rewritten as a model file of ours."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from sam_plugins.errors import OutputError, UnsuitableModelError
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import ModelFile, load_checkpoint, resolve
from sam_plugins.model.weights.passport import Passport
from sam_plugins.model.weights.registry import entry_of_sha256


def convert_checkpoint(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    name: str | None = None,
    licence: str | None = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    allow_unverified: bool = False,
) -> Path:
    """Write the weights of ``source`` as safetensors with a passport.

    Parameters
    ----------
    source : str or path
        A model's name or the path of any checkpoint that can be loaded.
    destination : str or path
        A file ending in ``.safetensors``.
    name, licence : str, optional
        For the passport; by default what is known of the source.
    dtype : torch.dtype
        Type on disk. float32 loses nothing, float16 halves the file.
    overwrite : bool
        Replace an existing file.
    allow_unverified : bool
        Accept files for which no digest is published.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    OutputError
        If ``destination`` exists or cannot be written.
    UnsuitableModelError
        If a weight is not finite or too large for ``dtype``.
    WeightsError
        As :func:`~sam_plugins.model.weights.loading.load_checkpoint`.
    ValueError
        If ``destination`` does not end in ``.safetensors``.
    """
    target = Path(destination)
    if target.suffix != ".safetensors":
        raise ValueError(f"destination must end in .safetensors, got {target.name!r}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: choose another name, or overwrite it with --overwrite")
    file: ModelFile = resolve(source, allow_unverified=allow_unverified)
    loaded = load_checkpoint(file, allow_unverified=allow_unverified)
    entry = file.entry or entry_of_sha256(loaded.sha256)
    if loaded.passport is not None:
        passport = replace(loaded.passport, name=name or loaded.name)
    else:
        passport = Passport(
            name=name or loaded.name,
            config=loaded.config,
            description=entry.good_for if entry else "",
            licence=entry.licence if entry else "",
            parent=loaded.model_id,
        )
    if licence is not None:
        passport = replace(passport, licence=licence)
    try:
        return save_model_file(target, loaded.state_dict, passport, dtype=dtype)
    except ValueError as error:
        raise UnsuitableModelError(
            f"cannot convert {loaded.path}: {error}; float32 holds every finite value"
        ) from error
