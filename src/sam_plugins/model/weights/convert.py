"""Any readable checkpoint as a model file of ours; an MAE checkpoint, as a SAM to train."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sam_plugins.errors import OutputError, UnsuitableModelError
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.hashing import file_digests
from sam_plugins.model.weights.loading import ModelFile, load_checkpoint, resolve
from sam_plugins.model.weights.mae import sam_of_mae
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
    target = _free_target(destination, overwrite=overwrite)
    file: ModelFile = resolve(source)
    loaded = load_checkpoint(file)
    entry = file.entry or entry_of_sha256(loaded.sha256)
    passport = loaded.passport or Passport(
        name=loaded.name,
        config=loaded.config,
        description=entry.good_for if entry else "",
        licence=entry.licence if entry else "",
        parent=loaded.model_id,
    )
    given = _with_given(passport, name or loaded.name, licence)
    return _save(target, loaded.state_dict, given, dtype, loaded.path)


def convert_mae(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    name: str | None = None,
    licence: str | None = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    seed: int = 0,
) -> Path | None:
    """Write a SAM whose image encoder starts from a masked autoencoder, to be trained.

    Parameters
    ----------
    source : str or path
        An official MAE checkpoint of ViT-B, L or H, or one of ours.
    destination, name, licence, dtype, overwrite
        As those of :func:`convert_checkpoint`.
    seed : int
        Of all weights but the image encoder's.

    Returns
    -------
    Path or None
        The new file; None, and nothing is written, if ``source`` is no masked autoencoder.

    Raises
    ------
    OutputError, UnsuitableModelError, ValueError
        As :func:`convert_checkpoint`.
    CheckpointError
        As :func:`~sam_plugins.model.weights.mae.sam_of_mae`.
    """
    target = _free_target(destination, overwrite=overwrite)
    file = resolve(source)
    started = sam_of_mae(file.path, seed=seed)
    if started is None:
        return None
    old = started.passport or Passport(name=file.name, config=started.config)
    digest = file_digests(file.path, ["sha256"])["sha256"]
    passport = replace(
        old,
        config=started.config,
        description="Its image encoder is pre-trained, all else is fresh: train it.",
        parent=f"{old.name}-{digest[:12]}",
        metrics={},
        extra={key: value for key, value in old.extra.items() if key != "weights_of"},
    )
    given = _with_given(passport, name or f"{old.name}-start", licence)
    return _save(target, started.sam.state_dict(), given, dtype, file.path)


def _free_target(destination: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where the new file goes, if it may."""
    target = Path(destination)
    if target.suffix != ".safetensors":
        raise ValueError(f"destination must end in .safetensors, got {target.name!r}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: choose another name, or overwrite it with --overwrite")
    return target


def _with_given(passport: Passport, name: str, licence: str | None) -> Passport:
    """Return a passport with what was asked for."""
    return replace(passport, name=name, licence=passport.licence if licence is None else licence)


def _save(
    target: Path,
    state_dict: Mapping[str, Tensor],
    passport: Passport,
    dtype: torch.dtype,
    source: Path,
) -> Path:
    """Write a model file; say which source holds what the type cannot."""
    try:
        return save_model_file(target, state_dict, passport, dtype=dtype)
    except ValueError as error:
        raise UnsuitableModelError(
            f"cannot convert {source}: {error}; float32 holds every finite value"
        ) from error
