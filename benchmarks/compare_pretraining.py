"""Does a masked autoencoder's start help a small plain ViT? Train it twice, and measure.

    sam-plugins pretrain DATA/*/train/images -o run --encoder vit-tiny --sam-size 256 ...
    python -m benchmarks.compare_pretraining run/mae.safetensors DATA --steps 300

Both networks see the same batches and start from the same random decoders; the image encoder of one
starts from the file. Measured is the average of the weights, on val pictures. ``--starts random``
trains one of them alone, so that two cores train both at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from sam_plugins.model.engine.held_out import Round, measure_round
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.labelled import LabelledFile, list_manifest_files
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.networks.image_encoder_vit import VitImageEncoder
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions
from sam_plugins.model.training.choices import CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.packing import load_pack, pack_folder
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.mae import MaeStart, load_mae, start_sam
from sam_plugins.model.weights.passport import Passport

STARTS = ("random", "autoencoder")
"""From what the image encoder starts."""


def main() -> None:
    """Compare, and print one line of JSON for each start."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mae", type=Path, help="mae.safetensors of a pre-training run")
    parser.add_argument("data", type=Path, help="folder of data sets with manifests")
    parser.add_argument("--pack", type=Path, help="packed training data; made where it is missing")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=256, help="side of the input in pixels")
    parser.add_argument("--images", type=int, default=4, help="crops in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--sets", nargs="+", help="val sets to measure on (all)")
    parser.add_argument("--pictures", type=int, default=4, help="of each val set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS, help="(all)")
    options = parser.parse_args()

    start = load_mae(options.mae)
    start = load_mae(options.mae, replace(start.config, image_size=options.size))
    square = Preprocessing(min_long_side=options.size, max_long_side=options.size)
    config = SamConfig(start.config, preprocessing=square)
    pack = options.pack or options.mae.with_name("pack.zip")
    if not pack.exists():
        pack_folder(options.data, pack)
    crops = (CropSize(options.size, options.images, 3, 1.0),)
    pictures = load_pack(pack)
    scaled = [  # the pack was made for the shipped model's input
        replace(one, network_scale=options.size / max(one.labels.shape)) for one in pictures
    ]
    batches = BatchMaker(scaled, BatchOptions(crop_sizes=crops), options.seed)
    training = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        dense_steps=0,
        warmup_steps=min(50, options.steps // 5),
        ema_decay=0.98,
        seed=options.seed,
    )
    files = _some(list_manifest_files(options.data, options.sets, split="val"), options.pictures)
    fresh = MaeStart({}, start.config, (), ())
    for name, one in zip(STARTS, (fresh, start), strict=True):
        if name not in options.starts:
            continue
        network = _sam(one, config, options.seed)
        found = _trained(network, batches, training, files)
        figures = {key: round(value, 4) for key, value in found.figures.items()}
        print(json.dumps({"start": name, "steps": found.step, **figures}), flush=True)


def _sam(start: MaeStart, config: SamConfig, seed: int) -> Sam:
    """Build the network; without a start, all of it is random."""
    if start.state_dict:
        return start_sam(start, config, seed=seed)
    torch.manual_seed(seed)
    network = build_sam(config)
    assert isinstance(network.image_encoder, VitImageEncoder)
    torch.nn.init.trunc_normal_(network.image_encoder.pos_embed, std=0.02)
    return network


def _trained(
    network: Sam, batches: BatchMaker, config: TrainingConfig, files: list[LabelledFile]
) -> Round:
    """Train, and measure what comes out."""
    state = TrainingState.fresh(network, config)
    train(state, batches, config, workers=0, report=_say)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model_file(path, state.average, Passport("compared", network.config))
        return measure_round(load_model(path), state.step, files, max_objects=6, seed=0)


def _say(step: int, values: Mapping[str, float]) -> None:
    """Tell now and then how far it is: a step takes seconds."""
    if step % 20 == 0:
        print(f"step {step}, loss {values['loss']:.2f}", file=sys.stderr, flush=True)


def _some(files: list[LabelledFile], count: int) -> list[LabelledFile]:
    """Return the first pictures of each set."""
    by_set: dict[str, list[LabelledFile]] = {}
    for file in files:
        by_set.setdefault(file.set_name, []).append(file)
    return [file for own in by_set.values() for file in own[:count]]


if __name__ == "__main__":
    main()
