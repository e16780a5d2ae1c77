from __future__ import annotations

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
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.recipe import TrainingRecipe
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
