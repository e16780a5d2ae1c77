"""How badly a network sees each training picture, so that it meets those more often."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sam_plugins.errors import TrainingError
from sam_plugins.model.inference.preprocess import prepare_input
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import pictures_digest
from sam_plugins.model.training.losses import soft_dice
from sam_plugins.model.training.pictures import TrainingPicture, resize_nearest
from sam_plugins.model.training.targets import CELL, RIM_CELLS, instance_targets

_KNOWN_ERROR = 0.05
"""What even the best seen pictures count with, so that none is forgotten."""


@torch.inference_mode()
def foreground_errors(
    model: Sam,
    pictures: Sequence[TrainingPicture],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Measure what the instance decoder's foreground lacks, of whole pictures as people give them.

    The foreground shows at once what is not found, what is found and is not there, and outlines
    that are too narrow or too wide.

    Parameters
    ----------
    model : Sam
        With an instance decoder. It answers as in inference, and is left as it was.
    pictures : sequence of TrainingPicture
    on_progress : callable, optional
        Called with how many pictures are done and how many there are.

    Returns
    -------
    ndarray of shape (len(pictures),), float64
        Soft dice loss where the truth is known, 0 to 1.

    Raises
    ------
    ValueError
        If the network has no instance decoder.
    """
    if model.instance_decoder is None:
        raise ValueError("the network must have an instance decoder, this one has none")
    errors = np.zeros(len(pictures))
    with _as_in_inference(model):
        for number, picture in enumerate(pictures):
            errors[number] = _foreground_error(model, picture)
            if on_progress is not None:
                on_progress(number + 1, len(pictures))
    return errors


@contextlib.contextmanager
def _as_in_inference(model: nn.Module) -> Iterator[None]:
    """Let a network answer as in inference, then give each part its mode back."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, is_training in modes.items():
            part.training = is_training


def _foreground_error(model: Sam, picture: TrainingPicture) -> float:
    """Measure one picture."""
    pixels, (height, width) = prepare_input(picture.rgb, model.config.preprocessing)
    maps = model.instances(model.encode(pixels.to(next(model.parameters()).device)))
    size_hw = (pixels.shape[-2], pixels.shape[-1])
    labels = np.zeros(size_hw, np.int64)
    labels[:height, :width] = resize_nearest(picture.labels, (height, width))
    known = np.zeros(size_hw, bool)
    known[:height, :width] = True
    if picture.ignore is not None:
        known[:height, :width] &= ~resize_nearest(picture.ignore, (height, width))
    foreground, trusted = _targets(labels, known, complete=picture.complete)
    seen = maps.foreground[:, 0].float().sigmoid().cpu()
    return float(soft_dice(seen, foreground, trusted))


def known_errors(
    path: Path,
    model: Sam,
    model_id: str,
    pictures: Sequence[TrainingPicture],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Read what a network's foreground lacks, or measure it and write it down.

    Parameters
    ----------
    path : Path
        JSON; measured anew if it is of another model or of other pictures: other pixels, labels,
        or anything else that teaches.
    model : Sam
    model_id : str
    pictures, on_progress
        As those of :func:`foreground_errors`.

    Returns
    -------
    ndarray of shape (len(pictures),), float64
        To four places, so that a run that goes on has the same.

    Raises
    ------
    TrainingError
        If there is such a file, and it is damaged: a run that was weighted by it could not go on
        with numbers that another machine might measure otherwise.
    OutputError
        If the file cannot be written.
    """
    digest = pictures_digest(pictures)
    if path.exists():
        known = _read(path, model_id, digest, len(pictures))
        if known is not None:
            return known
    errors = foreground_errors(model, pictures, on_progress=on_progress).round(4)
    # A list and no mapping: two pictures may have one name.
    names = [f"{picture.set_name}/{picture.id}" for picture in pictures]
    measured = {
        "model": model_id,
        "pictures": digest,
        "errors": list(zip(names, errors.tolist(), strict=True)),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(measured), encoding="utf-8")
    return errors


def _read(path: Path, model_id: str, digest: str, count: int) -> NDArray[np.float64] | None:
    """Return what was measured of these pictures with this model, or None where it was another."""
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # What a version before wrote does not say of which pictures it is.
        if (known["model"], known.get("pictures")) != (model_id, digest):
            return None
        errors = [float(error) for _, error in known["errors"]]
        if len(errors) != count or not all(0 <= error <= 1 for error in errors):
            raise ValueError(f"expected {count} numbers from 0 to 1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} does not tell how badly a network sees the training pictures "
            f"({type(error).__name__}: {error}); remove it to have them measured again"
        ) from error
    return np.array(errors)


def chances_of(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how often pictures are drawn, relative to each other, from their errors.

    Examples
    --------
    >>> chances_of(np.array([0.0, 0.05, 0.25])).round(3).tolist()
    [0.05, 0.1, 0.3]
    """
    chances: NDArray[np.float64] = errors + _KNOWN_ERROR
    return chances


def _targets(
    labels: NDArray[np.int64], known: NDArray[np.bool_], *, complete: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the foreground and where it is known, each (1, h, w)."""
    short = [-side % CELL for side in labels.shape]
    padding = ((0, short[0]), (0, short[1]))
    targets = instance_targets(
        np.pad(labels, padding), np.pad(known, padding), complete=complete, rim_cells=RIM_CELLS
    )
    return torch.from_numpy(targets[:1]), torch.from_numpy(targets[3:])
