"""Pre-training in a folder: what it learns, what it writes, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unlabelled_pictures import write_pictures

from sam_plugins.errors import (
    DatasetError,
    FolderBusyError,
    ForeignCheckpointError,
    MemoryLimitError,
    OutputError,
    TrainingError,
)
from sam_plugins.model.engine import pretraining
from sam_plugins.model.engine.pretraining import Hooks, pretrain
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.networks.config import VitConfig
from sam_plugins.model.networks.masked_autoencoder import MaeConfig
from sam_plugins.model.training import precision
from sam_plugins.model.training.pretraining_config import PretrainingConfig
from sam_plugins.model.training.run_log import read_log
from sam_plugins.model.weights.checkpoints import read_weight_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.mae import load_mae, mae_start, start_sam

CONFIG = PretrainingConfig(
    network=MaeConfig(
        VitConfig(
            embed_dim=32, depth=2, num_heads=2, patch_size=8, global_attention_blocks=(1,),
            window_size=3, out_dim=256,
        ),
        image_size=32,
        decoder_dim=16,
        decoder_depth=1,
        decoder_heads=2,
    ),
    sam_image_size=64,
    steps=6,
    batch_size=4,
    warmup_steps=2,
    held_out_share=0.2,
    checks=2,
    precision="float32",
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "pictures")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_weight_file(path).state_dict


def test_what_a_run_writes(paths: list[Path], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    hooks = Hooks(on_progress=lambda now: steps.append((now.step, now.steps)))
    result = pretrain(paths, tmp_path / "run", CONFIG, hooks=hooks)
    assert (result.pictures, result.held_out) == (5, 1)
    assert steps == [(step, 6) for step in range(1, 7)]
    assert [check.step for check in result.checks] == [0, 3, 6]
    assert all(0.4 < check.constant <= 1 for check in result.checks)
    assert len({check.constant for check in result.checks}) == 1  # always the same masks
    assert sorted(path.name for path in (tmp_path / "run").glob("[!.]*")) == [
        "config.json", "held_out.csv", "log.csv", "mae.safetensors", "pictures.csv",
        "reconstructions.png", "sam.safetensors", "state.safetensors",
    ]  # fmt: skip
    assert [row["step"] for row in read_log(tmp_path / "run" / "log.csv")] == list("123456")
    used = (tmp_path / "run" / "pictures.csv").read_text()
    assert used.count("learned,") == 5
    assert used.count("held out,") == 1
    assert PretrainingConfig.read(tmp_path / "run" / "config.json") == CONFIG
    with Image.open(tmp_path / "run" / "reconstructions.png") as figure:
        assert figure.size == (4 * 36 - 4, 22 + 32)

    file = read_weight_file(result.mae_path)
    assert file.passport is not None
    assert file.passport.metrics["held out"]["loss"] == result.checks[-1].loss
    assert file.passport.training_data[0].pictures == 5


def test_one_process_at_a_time(paths: list[Path], tmp_path: Path) -> None:
    begun: list[int] = []

    def again(now: object) -> None:
        if not begun:
            begun.append(1)
            with pytest.raises(FolderBusyError, match="another process is at work on the run"):
                pretrain(paths, tmp_path / "run", CONFIG, overwrite=True)

    pretrain(paths, tmp_path / "run", CONFIG, hooks=Hooks(on_progress=again))
    assert begun
    assert [row["step"] for row in read_log(tmp_path / "run" / "log.csv")] == list("123456")


def test_the_checkpoint_starts_a_sam(paths: list[Path], tmp_path: Path) -> None:
    result = pretrain(paths, tmp_path / "run", CONFIG)
    start = load_mae(result.mae_path)  # the passport tells the encoder
    assert start.config == CONFIG.sam_encoder
    assert set(start.fresh) == {
        "neck", *(f"blocks.{i}.attn.rel_pos_{axis}" for i in range(2) for axis in "hw")
    }  # fmt: skip
    learned = weights(result.mae_path)
    model = load_model(result.sam_path)
    encoder = model.network.image_encoder.state_dict()
    for mine, theirs in {
        "blocks.1.mlp.lin2.weight": "blocks.1.mlp.fc2.weight",
        "blocks.0.attn.qkv.bias": "blocks.0.attn.qkv.bias",
    }.items():
        assert torch.equal(encoder[mine], learned[theirs])
    # From patches of 8 pixels to SAM's of 16.
    assert encoder["patch_embed.proj.weight"].shape == (32, 3, 16, 16)
    assert torch.equal(encoder["pos_embed"].flatten(1, 2), learned["pos_embed"][:, 1:])
    assert model.passport is not None
    assert model.passport.extra["pretraining"]["steps"] == 6
    assert torch.isfinite(model.network.encode(torch.randn(1, 3, 64, 64)).embedding).all()
    with pytest.raises(ForeignCheckpointError, match=r"mae\.safetensors is a masked autoencoder.*"):
        load_checkpoint(result.mae_path)
    other = replace(model.config, image_encoder=replace(CONFIG.sam_encoder, out_dim=64))
    with pytest.raises(ValueError, match="config must have the image encoder of the start"):
        start_sam(start, other)
    assert torch.equal(
        start_sam(mae_start(learned, CONFIG.sam_encoder), model.config).image_encoder.pos_embed,
        encoder["pos_embed"],
    )


def test_it_learns_to_draw_what_it_does_not_see(tmp_path: Path) -> None:
    # Ramps: what is hidden follows from what is seen, but for the direction from nothing else.
    rows, columns = np.mgrid[:40, :40] * 3
    ramps = (rows, columns, rows + columns, 120 - rows, rows - columns + 90)
    for number, ramp in enumerate(ramps):
        Image.fromarray((ramp + 10).clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
    config = replace(CONFIG, steps=100, warmup_steps=10, learning_rate=5e-3, checks=1)
    result = pretrain(sorted(tmp_path.glob("*.png")), tmp_path / "run", config)
    first, last = result.checks
    assert first.loss > 0.95 * first.constant
    assert last.loss < 0.7 * last.constant


class StoppedError(Exception):
    pass


def stop_at(step: int) -> Hooks:
    def on_progress(now: Any) -> None:
        if now.step == step:
            raise StoppedError

    return Hooks(on_progress=on_progress)


def test_a_stopped_run_goes_on_to_the_same_weights(paths: list[Path], tmp_path: Path) -> None:
    whole = pretrain(paths, tmp_path / "whole", CONFIG)
    for step in (2, 5):
        with pytest.raises(StoppedError):
            pretrain(paths, tmp_path / "run", CONFIG, save_every_seconds=0, hooks=stop_at(step))
        assert not (tmp_path / "run" / "mae.safetensors").exists()
    result = pretrain(paths, tmp_path / "run", CONFIG)
    again = weights(result.mae_path)
    for name, value in weights(whole.mae_path).items():
        assert torch.equal(value, again[name]), name
    assert result.checks == whole.checks
    one, other = (
        [(row["step"], row["loss"]) for row in read_log(tmp_path / name / "log.csv")]
        for name in ("whole", "run")
    )
    assert one == other


_IN_A_PROCESS = """
import sys, time
from pathlib import Path
from sam_plugins.model.engine.pretraining import Hooks, pretrain
from sam_plugins.model.training.pretraining_config import PretrainingConfig
folder, run, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
def told(now):
    print(now.step, flush=True)
    time.sleep(pause)
pretrain(sorted((folder / 'pictures').iterdir()), folder / run,
         PretrainingConfig.read(folder / 'config.json'), save_every_seconds=0,
         hooks=Hooks(on_progress=told))
"""


def test_a_killed_run_goes_on_to_the_same_weights(paths: list[Path], tmp_path: Path) -> None:
    # Each run has a process of its own: what other tests did to the threads of this one (MKL's are
    # no longer its default once a number was set) changes the last digits.
    assert paths
    config = replace(CONFIG, steps=60, checks=1)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")

    def started(run: str, pause: float) -> subprocess.Popen[str]:
        (tmp_path / run).mkdir(exist_ok=True)
        command = [sys.executable, "-c", _IN_A_PROCESS, str(tmp_path), run, str(pause)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole, _ = started("whole", 0).communicate()
    assert whole.split()[0] == "1"
    log = tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 120
    with started("run", 0.05) as process:
        while not (log.exists() and len(read_log(log)) >= 5):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 5 <= len(read_log(log)) < 60
    steps, _ = started("run", 0).communicate()
    assert int(steps.split()[0]) > 1  # it did not start again
    first, second = (weights(tmp_path / run / "mae.safetensors") for run in ("whole", "run"))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert [row["step"] for row in read_log(log)] == [str(step) for step in range(1, 61)]


def test_worker_processes_change_nothing(paths: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=2, checks=1)
    here = pretrain(paths, tmp_path / "here", config)
    there = pretrain(paths, tmp_path / "there", config, workers=1)
    again = weights(there.mae_path)
    assert all(torch.equal(value, again[name]) for name, value in weights(here.mae_path).items())


def test_a_complete_run_is_not_replaced(paths: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=1, checks=1)
    first = weights(pretrain(paths, tmp_path / "run", config).mae_path)
    with pytest.raises(OutputError, match=r"holds a complete run \(mae\.safetensors\): choose"):
        pretrain(paths, tmp_path / "run", config)
    other = pretrain(paths, tmp_path / "run", replace(config, seed=1), overwrite=True)
    assert not torch.equal(weights(other.mae_path)["blocks.0.attn.qkv.weight"],
                           first["blocks.0.attn.qkv.weight"])  # fmt: skip


def test_a_run_goes_on_only_with_the_same(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        pretrain(paths, tmp_path / "run", CONFIG, save_every_seconds=0, hooks=stop_at(3))
    with pytest.raises(TrainingError, match=r"another recipe \(different: config.seed\)"):
        pretrain(paths, tmp_path / "run", replace(CONFIG, seed=1))
    with pytest.raises(TrainingError, match=r"different: (data_digest|held_out_digest)"):
        pretrain(paths[1:], tmp_path / "run", CONFIG)
    assert PretrainingConfig.read(tmp_path / "run" / "config.json") == CONFIG


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no picture to learn from"):
        pretrain([], tmp_path / "run", CONFIG)


def test_a_single_picture_is_learned_from_and_nothing_held_out(tmp_path: Path) -> None:
    result = pretrain(write_pictures(tmp_path / "p", 1), tmp_path / "run", CONFIG)
    assert (result.pictures, result.held_out, result.checks) == (1, 0, ())
    assert not (tmp_path / "run" / "reconstructions.png").exists()


def test_a_loss_that_is_no_number(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoppedError):
        pretrain(paths, tmp_path / "run", CONFIG, save_every_seconds=0, hooks=stop_at(3))
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    loss = pretraining.reconstruction_loss
    monkeypatch.setattr(pretraining, "reconstruction_loss", lambda *_: loss(*_) * np.nan)
    with pytest.raises(TrainingError, match="the loss of step 2 is not a number; go on from"):
        pretrain(paths, tmp_path / "run", CONFIG)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before


def test_memory_that_runs_out(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(pretraining, "reconstruction_loss", full)
    message = r"pre-training with 4 pictures a step ran out of memory.*batch_size=1 needs about"
    with pytest.raises(MemoryLimitError, match=message):
        pretrain(paths, tmp_path / "run", CONFIG)


def test_a_folder_that_cannot_be_written(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="a file of that name exists"):
        pretrain(paths, tmp_path / "file", CONFIG)


def test_a_run_goes_on_in_the_precision_that_it_began_with(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, steps=3, checks=1, precision="auto")
    folder = tmp_path / "run"
    abilities = {"avx512_bf16": False}
    monkeypatch.setattr(precision, "_abilities_of_cpu", lambda: abilities)
    with pytest.raises(StoppedError):
        pretrain(paths, folder, config, save_every_seconds=0, hooks=stop_at(2))
    abilities["avx512_bf16"] = True  # on another machine
    pretrain(paths, folder, config)
    assert json.loads((folder / "config.json").read_text())["precision"] == "float32"
    pretrain(paths, folder, config, overwrite=True)
    assert json.loads((folder / "config.json").read_text())["precision"] == "bfloat16"


def test_bfloat16_learns_too(paths: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=2, checks=1, precision="bfloat16")
    assert pretrain(paths, tmp_path / "run", config).checks[-1].loss > 0
