"""Train the model that ships with the package: ``python -m sam_plugins.model.training.default``.

Run it again to go on where the last run stopped; a model file is written at the end of every slice
from the average of the weights. ``make train-default`` is the whole recipe.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED
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
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

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
        # A parent's mask decoder knows what it asks for.
        dense_steps=0 if options.start_from else TrainingConfig.dense_steps,
        warmup_steps=50 if options.start_from else TrainingConfig.warmup_steps,
        # Masks that stand need no help against collapse, only a fair edge.
        losses=LossWeights(background_areas=1.5) if options.start_from else LossWeights(),
    )
    torch.manual_seed(config.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    model = build_sam(SHIPPED).to(options.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parent = _start_from(model, options.start_from)
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
        training_data=tuple(pack_sources(pack)),
        parent=parent,
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
    parser.add_argument("--start-from", metavar="MODEL", help="file or name of a parent")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--version", default="1")
    return parser.parse_args(arguments)


def _start_from(model: torch.nn.Module, name_or_path: str | None) -> str | None:
    """Load a parent's weights where one is asked for; return its id."""
    if name_or_path is None:
        return None
    from sam_plugins.model.weights.loading import load_checkpoint

    parent = load_checkpoint(name_or_path)
    model.load_state_dict(parent.state_dict)
    return parent.model_id


def _log(write: object, step: int, values: Mapping[str, float]) -> None:
    """Append a line of JSON."""
    line = {"step": step, **{key: round(value, 5) for key, value in values.items()}}
    assert callable(write)
    write(json.dumps(line) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
