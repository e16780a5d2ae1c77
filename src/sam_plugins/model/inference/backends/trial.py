"""Which way to run an image encoder: tried once on a machine, checked, and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from sam_plugins import __version__
from sam_plugins.errors import how_to_install
from sam_plugins.model.inference.backends.ways import Encoder, Way
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.networks.features import ImageFeatures

REFERENCE = "torch"
"""PyTorch as it is: what the others are held against."""

MAX_ERROR = {torch.float32: 1e-4}
"""Relative error (L2) up to which an answer agrees with the reference, by floating type."""

_MAX_ERROR_OF_HALF = 3e-2

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The way that won, and how to run it; ``encoder`` is None for the reference."""

    name: str
    encoder: Encoder | None


def choose(
    encoder: nn.Module,
    example: Tensor,
    ways: Sequence[Way],
    folder: Path,
    *,
    identity: str,
    compares: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Return the fastest of some ways that agree with PyTorch.

    Parameters
    ----------
    encoder : nn.Module
        An image encoder in evaluation mode.
    example : Tensor of shape (1, 3, H, W)
        What all ways encode, in the encoder's type.
    ways : sequence of Way
        Those that are not installed, fail or disagree are left out, with a warning.
    folder : Path
        Where networks are exported to, and where the winner is remembered: as long as nothing has
        another version, PyTorch and this package included. Then all is exported and held against
        PyTorch again.
    identity : str
        Of the weights and of what they are run with.
    compares : bool
        Whether PyTorch is used where it is faster than all of them.
    clock : callable
        Returns seconds.
    """
    installed = [way for way in ways if way.is_installed]
    absent = [way.name for way in ways if not way.is_installed]
    if absent:
        _LOG.warning(
            "not installed and not tried: %s; %s", ", ".join(absent), how_to_install("fast")
        )
    path = folder / "choices.json"
    key = _key(identity, example, installed, compares)
    exported = folder / _digest(f"{identity} | {' '.join(_versions(installed))}")
    known = _remembered(path).get(key)
    if known == REFERENCE or not installed:
        _LOG.info("%s: %s", identity, REFERENCE)
        return Choice(REFERENCE, None)
    for way in installed:
        if way.name == known:
            built = _built(way, encoder, example, exported)
            if built is not None:
                return Choice(way.name, built)
    expected = _encode(encoder, example)
    seconds = {REFERENCE: _seconds(encoder, example, clock)}
    encoders: dict[str, Encoder] = {}
    for way in installed:
        built = _built(way, encoder, example, exported)
        if built is not None and _agrees(way, built, example, expected):
            encoders[way.name] = built
            seconds[way.name] = _seconds(built, example, clock)
    if encoders and not compares:
        del seconds[REFERENCE]
    best = min(seconds, key=lambda name: seconds[name])
    _LOG.info("%s: %s of %s", identity, best, {k: round(v, 3) for k, v in seconds.items()})
    if compares or best != REFERENCE:  # What was asked for is tried again when it did not work.
        _remember(path, key, best)
    return Choice(best, encoders.get(best))


def relative_error(answer: ImageFeatures, expected: ImageFeatures) -> float:
    """Return the largest relative error (L2) among the tensors of two answers."""
    pairs = zip(answer.named_tensors().values(), expected.named_tensors().values(), strict=True)
    errors = [
        float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-30))
        for one, other in pairs
    ]
    # NaN compares with nothing.
    return max(error if error == error else float("inf") for error in errors)


def _built(way: Way, encoder: nn.Module, example: Tensor, folder: Path) -> Encoder | None:
    """Build an encoder, or say why there is none."""
    try:
        return way.build(encoder, example, folder)
    except Exception as error:  # noqa: BLE001 - other libraries raise what they like
        _LOG.warning("the back end %s cannot be used: %s", way.name, error)
        return None


def _agrees(way: Way, built: Encoder, example: Tensor, expected: ImageFeatures) -> bool:
    """Hold the first answer of a back end against the reference."""
    try:
        error = relative_error(_encode(built, example), expected)
    except Exception as failure:  # noqa: BLE001 - other libraries raise what they like
        _LOG.warning("the back end %s cannot be used: %s", way.name, failure)
        return False
    limit = MAX_ERROR.get(example.dtype, _MAX_ERROR_OF_HALF)
    if error > limit:
        _LOG.warning(
            "the back end %s is not used: its answer is %.1e off, more than %.0e",
            way.name,
            error,
            limit,
        )
    return error <= limit


@torch.inference_mode()
def _encode(encoder: Encoder, example: Tensor) -> ImageFeatures:
    """Run an encoder."""
    return encoder(example)


def _seconds(encoder: Encoder, example: Tensor, clock: Callable[[], float]) -> float:
    """Return the seconds of the better of two runs; the first one also warms up."""
    found = []
    for _ in range(2):
        start = clock()
        _encode(encoder, example)
        found.append(clock() - start)
    return min(found)


def _key(identity: str, example: Tensor, installed: Sequence[Way], compares: bool) -> str:
    """Return what a choice holds for: weights, machine, threads, type and what is installed."""
    parts = (
        identity,
        platform.node(),
        platform.processor() or platform.machine(),
        str(torch.get_num_threads()),
        str(example.device.type),
        str(example.dtype),
        "compared" if compares else "asked for",
        *(way.name for way in installed),
        *_versions(installed),
    )
    return " | ".join(parts)


def _versions(installed: Sequence[Way]) -> list[str]:
    """Return versions of all that decides what a back end answers."""
    packages = sorted({package for way in installed for package in way.packages})
    return [
        f"sam-plugins {__version__}",
        f"torch {torch.__version__}",
        *(f"{package} {_version(package)}" for package in packages),
    ]


def _version(package: str) -> str:
    """Return the version of an installed package; its distribution may have another name."""
    for name in metadata.packages_distributions().get(package, [package]):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown"


def _digest(identity: str) -> str:
    """Return a name for the folder of a network's exported files."""
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _remembered(path: Path) -> dict[str, str]:
    """Return earlier choices; none where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _remember(path: Path, key: str, name: str) -> None:
    """Write a choice beside the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    choices = {**_remembered(path), key: name}
    with atomic_path(path, flush=False) as temporary:
        temporary.write_text(json.dumps(choices, indent=1), encoding="utf-8")
