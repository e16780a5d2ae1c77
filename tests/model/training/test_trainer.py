from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.training.batches import (
    BatchMaker,
    BatchOptions,
    CropSize,
    TrainingBatch,
)
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.simulated_session import simulate_session
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train

OPTIONS = BatchOptions(crop_sizes=(CropSize(64, 4, 3, 1.0),))
CONFIG = TrainingConfig(steps=6, warmup_steps=2, precision="float32")


def fresh(config: SamConfig, training: TrainingConfig = CONFIG) -> TrainingState:
    torch.manual_seed(0)
    return TrainingState.fresh(build_sam(config), training)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_slices_compute_what_one_run_would_have(
    tiny_config: SamConfig,
    pictures: list[TrainingPicture],
    tmp_path: Path,
    optimizer: Literal["adamw", "muon"],
) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    batches = BatchMaker(pictures, OPTIONS, 0)
    whole = fresh(tiny_config, config)
    assert train(whole, batches, config, workers=0)

    path = tmp_path / "state.safetensors"
    slices = 0
    is_complete = False
    while not is_complete:
        part = fresh(tiny_config, config)
        if path.exists():
            part.load(path, TrainingRecipe.of(tiny_config, config, batches))
        is_complete = train(part, batches, config, state_path=path, max_seconds=0, workers=0)
        slices += 1
    assert slices == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, part.model.state_dict()[name]), name
        assert torch.equal(whole.average[name], part.average[name]), name


class _OneBatch(BatchMaker):
    """The same batch at every step: a network that can learn learns it by heart."""

    def batch(self, step: int) -> TrainingBatch:
        return super().batch(0)


def test_training_learns(tiny_config: SamConfig, pictures: list[TrainingPicture]) -> None:
    config = replace(CONFIG, steps=80, warmup_steps=5, dense_steps=10, learning_rate=5e-3)
    reports: list[Mapping[str, float]] = []
    train(
        fresh(tiny_config, config),
        _OneBatch(pictures, OPTIONS, 0),
        config,
        workers=0,
        report=lambda _, values: reports.append(values),
    )
    assert len(reports) == 80

    def mean(name: str, part: slice) -> float:
        return float(np.mean([values[name] for values in reports[part] if name in values]))

    first, last = slice(10), slice(-10, None)
    assert mean("instances", last) < 0.8 * mean("instances", first)
    assert mean("point_best", last) > 0.5
    assert mean("box_single", last) > 0.5


@pytest.mark.parametrize(
    ("outer", "box_share", "is_asked"), [(1.0, 0.0, True), (1.0, 1.0, False), (0.0, 0.0, False)]
)
def test_points_ask_for_the_whole_around_a_part_and_boxes_do_not(
    tiny_config: SamConfig,
    pictures: list[TrainingPicture],
    outer: float,
    box_share: float,
    is_asked: bool,
) -> None:
    batch = BatchMaker(pictures, OPTIONS, 0).batch(0)
    assert batch.outer_masks is not None
    assert not batch.outer_masks.any()
    nested = replace(batch, outer_masks=torch.ones_like(batch.masks))
    prompts = replace(CONFIG.prompts, box_share=box_share, clicked_box_share=0.0)
    config = replace(CONFIG, prompts=prompts, losses=LossWeights(outer=outer))
    model = fresh(tiny_config).model.eval()
    with torch.no_grad():
        alone, around = (simulate_session(model, one, config, 0).loss for one in (batch, nested))
    assert (around > alone) == is_asked


def test_bfloat16_trains_too(tiny_config: SamConfig, pictures: list[TrainingPicture]) -> None:
    config = replace(CONFIG, steps=2, precision="bfloat16")
    state = fresh(tiny_config, config)
    assert train(state, BatchMaker(pictures, OPTIONS, 0), config, workers=0)
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())


def test_a_state_of_another_run_is_refused(
    tiny_config: SamConfig, pictures: list[TrainingPicture], tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    batches = BatchMaker(pictures, OPTIONS, 0)
    state = fresh(tiny_config)
    state.save(path, TrainingRecipe.of(tiny_config, CONFIG, batches))
    decoder = replace(tiny_config.mask_decoder, mlp_dim=24)
    others = {
        "training.seed": (tiny_config, replace(CONFIG, seed=1), batches),
        "network.mask_decoder.mlp_dim": (
            replace(tiny_config, mask_decoder=decoder),
            CONFIG,
            batches,
        ),
        "batches.power": (tiny_config, CONFIG, BatchMaker(pictures, replace(OPTIONS, power=1), 0)),
        "data_digest": (tiny_config, CONFIG, BatchMaker(pictures[1:], OPTIONS, 0)),
    }
    for name, parts in others.items():
        with pytest.raises(TrainingError, match=rf"different: {name}\)"):
            state.load(path, TrainingRecipe.of(*parts))


def test_a_file_that_is_no_state_is_refused(
    tiny_config: SamConfig, pictures: list[TrainingPicture], tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"nothing")
    recipe = TrainingRecipe.of(tiny_config, CONFIG, BatchMaker(pictures, OPTIONS, 0))
    with pytest.raises(TrainingError, match="not the state of a training run"):
        fresh(tiny_config).load(path, recipe)


def test_a_loss_that_is_no_number_stops_the_run(
    tiny_config: SamConfig, pictures: list[TrainingPicture]
) -> None:
    state = fresh(tiny_config)
    with torch.no_grad():
        next(state.model.image_encoder.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not a number"):
        train(state, BatchMaker(pictures, OPTIONS, 0), CONFIG, workers=0)


def test_worker_processes_deliver_the_same_batches(
    tiny_config: SamConfig, pictures: list[TrainingPicture]
) -> None:
    batches = BatchMaker(pictures, OPTIONS, 0)
    config = replace(CONFIG, steps=2)
    here, there = fresh(tiny_config, config), fresh(tiny_config, config)
    train(here, batches, config, workers=0)
    train(there, batches, config, workers=1)
    for name, value in here.average.items():
        assert torch.equal(value, there.average[name]), name


def test_a_schedule_can_be_left_early(
    tiny_config: SamConfig, pictures: list[TrainingPicture]
) -> None:
    state = fresh(tiny_config)
    assert not train(state, BatchMaker(pictures, OPTIONS, 0), CONFIG, workers=0, stop_at=2)
    assert state.step == 2


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be 1 or more"):
        TrainingConfig(steps=0)
    with pytest.raises(ValueError, match="ema_decay must lie"):
        TrainingConfig(ema_decay=1.0)
    with pytest.raises(ValueError, match="precision must be"):
        TrainingConfig(precision="float16")  # type: ignore[arg-type]


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_share=0.1)
    rates = [config.learning_rate_at(step) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1)


def test_what_is_frozen_keeps_its_statistics_too(
    pictures: list[TrainingPicture], tiny_config: SamConfig
) -> None:
    state = fresh(tiny_config)
    encoder = state.model.image_encoder
    encoder.entering = nn.BatchNorm2d(3)  # TinyViT has many.
    encoder.register_forward_pre_hook(lambda _, inputs: (encoder.entering(inputs[0]),))
    encoder.requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = TrainingState.fresh(state.model, CONFIG)
    train(state, BatchMaker(pictures, OPTIONS, 0), CONFIG, stop_at=2, workers=0)
    after = encoder.state_dict()
    assert "entering.running_mean" in before
    assert all(torch.equal(before[name], after[name]) for name in before)


OUT_OF_MEMORY = """
import resource
import numpy as np, torch
from tests.model.inference.tiny_models import TINY_PYRAMID
from sam_plugins.errors import MemoryLimitError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.synthetic import synthetic_picture
from sam_plugins.model.training.trainer import train_step

config = TrainingConfig(steps=6, warmup_steps=2, precision="float32")
pictures = [synthetic_picture(np.random.default_rng(0), 128)]
small, large = (
    BatchMaker(pictures, BatchOptions((CropSize(pixels, 4, 3, 1.0),), 0.0), 0).batch(0)
    for pixels in (64, 1024)
)
state = TrainingState.fresh(build_sam(TINY_PYRAMID), config)
train_step(state, small, config)
before = {name: value.clone() for name, value in state.model.state_dict().items()}
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
# The pixels of the large batch alone are three times 48 MiB.
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, most))
try:
    train_step(state, large, config)
except MemoryLimitError as error:
    said = str(error)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(said)
same = all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
print(state.step, same)
train_step(state, small, config)
print(state.step)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory like this")
def test_a_training_that_really_runs_out_of_memory_can_go_on(
    tmp_path: Path, repository: Path
) -> None:
    """In a process of its own, with a limit on its memory that the system enforces."""
    script = tmp_path / "hungry.py"
    script.write_text(OUT_OF_MEMORY)
    paths = os.pathsep.join([str(repository / "src"), str(repository)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False,
        env=environment, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, after, last = done.stdout.splitlines()
    assert said.startswith("step 1 of the training ran out of memory; take smaller or fewer crops")
    assert (after, last) == ("1 True", "2")
