"""From a name or a path to weights that are checked, recognised and ready for a network."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sam_plugins.errors import (
    CheckpointError,
    ForeignCheckpointError,
    UnknownModelError,
    WeightsError,
)
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.weights.checkpoints import WeightFile, read_weight_file, require_finite
from sam_plugins.model.weights.download import fetch, verify
from sam_plugins.model.weights.hashing import file_digests, split_digest
from sam_plugins.model.weights.passport import MAE_KIND, Passport
from sam_plugins.model.weights.recognition import matching_state, recognise
from sam_plugins.model.weights.registry import ModelEntry, entry_of_sha256, find_entry
from sam_plugins.model.weights.store import ModelStore, is_reference

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True)
class ModelFile:
    """A file of weights on this machine.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The registry's name, or the file's name without its suffix.
    entry : ModelEntry or None
        Set when the file was asked for by name.
    """

    path: Path
    name: str
    entry: ModelEntry | None = None


@dataclass(frozen=True)
class LoadedCheckpoint:
    """Weights with everything that is known of them.

    Parameters
    ----------
    state_dict : dict of str to Tensor
        Exactly the names of ``build_sam(config)``, on the CPU, floating tensors in float32. May be
        mapped from the file: copy before changing in place.
    config : SamConfig
        The architecture, with ``preprocessing`` in it.
    name : str
        The passport's name, the registry's, or the file's.
    sha256 : str
        Digest of the file, hexadecimal.
    path : Path
        The file.
    passport : Passport or None
        Of our own files.
    left_aside : tuple of str
        What else was in the file.
    """

    state_dict: dict[str, Tensor]
    config: SamConfig
    name: str
    sha256: str
    path: Path
    passport: Passport | None = None
    left_aside: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """Name and the first 12 digits of the file's SHA-256: equal ids are equal weights."""
        return f"{self.name}-{self.sha256[:12]}"

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""
        return self.config.preprocessing


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    show_progress: bool | None = None,
) -> ModelFile:
    """Find the file of a model, downloading it if it is known by name and not there yet.

    Parameters
    ----------
    name_or_path : str or path
        A text without folder and suffix of a weight file (``.pth``, ``.pt``, ``.bin``, ``.ckpt``,
        ``.safetensors``) is a name, of a published model or of one in the model store
        (``"my-project@3"``, or ``"my-project"`` for the version in use); everything else is a path.
    show_progress : bool, optional
        Draw a bar while downloading; by default only on a terminal.

    Raises
    ------
    UnknownModelError
        If no model has that name.
    StoreError
        If the model store has no such version, or none is in use.
    DownloadError, HashMismatchError
        If the file cannot be had, or is another.
    CheckpointError
        If there is no file at the path.
    WeightsError
        If the shipped model is missing from the installation.
    TypeError
        If ``name_or_path`` is neither a text nor a path.
    """
    path = _as_path(name_or_path)
    if path is not None:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise CheckpointError(
                f"the file of weights {path} {what}: give the path of a file, or a model's name"
            )
        return ModelFile(path, path.stem)
    name = str(name_or_path)
    try:
        entry = find_entry(name)
    except UnknownModelError as error:
        store = ModelStore()
        if not is_reference(name) and not store.versions(name):
            if Path(name).is_file():
                raise UnknownModelError(
                    f"no model is called {name!r}, but a file here is: for that one give ./{name}"
                ) from error
            raise
        version = store.find(name)
        return ModelFile(version.path, version.name)
    if entry.is_shipped:
        _require_shipped(entry)
        return ModelFile(entry.path, entry.name, entry)
    file = fetch(
        entry,
        verify_existing=False,  # load_checkpoint hashes the file anyway, for the model's id.
        show_progress=show_progress,
    )
    return ModelFile(file, entry.name, entry)


def load_checkpoint(
    name_or_path: str | os.PathLike[str] | ModelFile,
    *,
    show_progress: bool | None = None,
) -> LoadedCheckpoint:
    """Read the weights of a model and recognise its architecture.

    Parameters
    ----------
    name_or_path : str, path or ModelFile
        See :func:`resolve`.
    show_progress : bool, optional
        Draw a bar while downloading; by default only on a terminal.

    Returns
    -------
    LoadedCheckpoint

    Raises
    ------
    UnsafeCheckpointError
        If reading the file would run code.
    ForeignCheckpointError
        If the file belongs to no architecture that we know.
    CheckpointError
        If the file is damaged, names are missing or left over, or a weight is NaN or infinite.
    WeightsError
        As in :func:`resolve`.
    """
    if isinstance(name_or_path, ModelFile):
        file = name_or_path
    else:
        file = resolve(name_or_path, show_progress=show_progress)
    sha256 = _checked_sha256(file)
    content = read_weight_file(file.path)
    _require_whole_model(content, file.path)
    entry = file.entry or entry_of_sha256(sha256)
    try:
        config = content.passport.config if content.passport else recognise(content.state_dict)
        state_dict, dispensable = matching_state(config, content.state_dict)
    except CheckpointError as error:
        raise type(error)(f"{file.path}: {error}") from error
    require_finite(state_dict, file.path)
    if entry is not None and entry.preprocessing is not None and content.passport is None:
        config = replace(config, preprocessing=entry.preprocessing)
    return LoadedCheckpoint(
        state_dict=state_dict,
        config=config,
        name=_name(file, entry, content.passport),
        sha256=sha256,
        path=file.path,
        passport=content.passport,
        left_aside=(*content.left_aside, *dispensable),
    )


def _require_whole_model(content: WeightFile, path: Path) -> None:
    """Refuse a pre-trained encoder of ours, whose passport tells of the SAM that it starts."""
    if content.passport is not None and content.passport.extra.get("weights_of") == MAE_KIND:
        raise ForeignCheckpointError(
            f"{path} is a masked autoencoder, an image encoder to start training from, and no "
            "whole model: give the file sam.safetensors beside it, whose mask decoder is still to "
            "be trained, or make one with `sam-plugins models convert FILE -o sam.safetensors`"
        )


def _name(file: ModelFile, entry: ModelEntry | None, passport: Passport | None) -> str:
    """Return the name for the model's id."""
    if passport is not None:
        return passport.name
    return entry.name if entry is not None else file.name


def _as_path(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Return a path, or None for what can only be a name."""
    if isinstance(name_or_path, os.PathLike):
        return Path(name_or_path)
    if not isinstance(name_or_path, str):
        raise TypeError(
            f"the model must be given by its name or a path, got {type(name_or_path).__name__}"
        )
    separators = [separator for separator in (os.sep, os.altsep, "/") if separator]
    is_path = any(separator in name_or_path for separator in separators)
    if is_path or name_or_path.lower().endswith(_SUFFIXES) or name_or_path.startswith("~"):
        return Path(name_or_path).expanduser()
    return None


def _require_shipped(entry: ModelEntry) -> None:
    """Refuse an installation without the model that belongs to it."""
    if not entry.path.is_file():
        raise WeightsError(
            "the model that ships with sam-plugins is missing from this installation (expected "
            f"{entry.path}). Install the package from its wheel, or train the model with `make "
            "train-default`; every other model can be used meanwhile"
        )


def _checked_sha256(file: ModelFile) -> str:
    """Hash the file once, for the check against its entry and for the model's id."""
    entry = file.entry
    algorithms = ["sha256"]
    if entry is not None and entry.digest is not None:
        algorithms.append(split_digest(entry.digest)[0])
    try:
        digests = file_digests(file.path, algorithms)
    except OSError as error:
        raise CheckpointError(
            f"cannot read the file of weights {file.path} ({error.strerror or error})"
        ) from error
    if entry is not None and not entry.is_shipped:
        verify(file.path, entry, digests)
    return digests["sha256"]
