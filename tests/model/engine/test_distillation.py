"""A student that learns from a tiny teacher: masks draw near, runs go on, bad input is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model
from tests.unlabelled_pictures import write_pictures

from sam_plugins.errors import (
    DatasetError,
    MemoryLimitError,
    OutputError,
    TrainingError,
    UnsuitableModelError,
)
from sam_plugins.model.engine import distillation, lesson, students
from sam_plugins.model.engine.distillation import Hooks, distil
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.large.whole import segment
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.training.distillation_config import DistillationConfig
from sam_plugins.model.training.distillation_losses import answer_loss
from sam_plugins.model.training.run_log import read_log
from sam_plugins.model.weights.checkpoints import read_weight_file, save_model_file
from sam_plugins.model.weights.passport import Passport

CONFIG = DistillationConfig(
    steps=4, batch_size=2, checks=2, clicks=4, held_out_share=0.2, learning_rate=3e-3,
    precision="float32",
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "pictures")


def write_teacher(path: Path, config: SamConfig) -> Path:
    """Write a model with random weights whose masks depend on the picture."""
    network = make_model(config, "teacher").network
    passport = Passport("teacher", config, version="1", licence="CC0")
    return save_model_file(path, network.state_dict(), passport, dtype=torch.float32)


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model of the shipped kind, whose students are tiny as well."""
    small = student_of(TINY_PYRAMID)
    monkeypatch.setattr(distillation, "student_config", lambda *_: small)
    return write_teacher(tmp_path / "teacher.safetensors", TINY_PYRAMID)


def student_of(config: SamConfig) -> SamConfig:
    assert isinstance(config.image_encoder, PyramidConfig)
    encoder = replace(config.image_encoder, stage_dims=(8, 8, 12, 12), context_depth=1)
    return replace(config, image_encoder=encoder)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_weight_file(path).state_dict


def test_a_student_is_a_model_that_says_whose(
    teacher: Path, paths: list[Path], tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    hooks = Hooks(on_progress=lambda now: told.append(tuple(now)))
    result = distil(teacher, paths, tmp_path / "small.safetensors", "pyramid", CONFIG, hooks=hooks)
    assert (result.pictures, result.held_out) == (5, 1)
    assert result.student_weights < result.teacher_weights
    assert [check.step for check in result.checks] == [0, 2, 4]
    assert {check.clicks for check in result.checks} == {4}
    assert told.count(("reading", 6, 6)) == 1
    assert [one for one in told if one[0] == "teacher"] == [("teacher", n, 6) for n in range(1, 7)]
    assert told[-1] == ("student", 4, 4)

    model, old = load_model(result.path), load_model(teacher)
    assert model.passport is not None
    assert model.passport.parent == old.model_id == result.teacher_id
    assert model.passport.licence == "CC0"
    assert model.passport.extra["distillation"]["student"] == "pyramid"
    figures = model.passport.metrics["agreement with the teacher on held-out pictures"]
    assert figures["confident IoU"] == result.checks[-1].confident_iou
    picture = np.asarray(Image.open(paths[0]))
    assert segment(picture, model).labels.shape == (48, 64)  # its instance decoder is there, too
    kept = weights(teacher)
    for name, value in weights(result.path).items():
        if name.startswith(("prompt_encoder.", "mask_decoder.", "instance_decoder.")):
            assert torch.equal(value, kept[name].half().float() if value.ndim > 1 else kept[name]) \
                or "gaussian" in name  # fmt: skip


def test_masks_draw_near_to_the_teachers(teacher: Path, paths: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=80, batch_size=3, checks=1, clicks=8, learning_rate=5e-3)
    path = tmp_path / "small.safetensors"
    result = distil(teacher, paths, path, "pyramid", config)
    first, last = result.checks
    assert last.loss < 0.5 * first.loss
    assert last.loss < 0.8
    assert last.same_iou > first.same_iou + 0.1
    assert last.confident_iou > first.confident_iou + 0.1


def test_the_decoder_adapts_to_the_student(
    teacher: Path, paths: list[Path], tmp_path: Path
) -> None:
    config = replace(
        CONFIG, steps=2, decoder_steps=30, checks=1, clicks=8, decoder_learning_rate=3e-3
    )
    result = distil(teacher, paths, tmp_path / "small.safetensors", "pyramid", config)
    start, encoder, decoder = result.checks
    assert (start.step, encoder.step, decoder.step) == (0, 2, 32)
    assert decoder.loss == pytest.approx(encoder.loss)  # the encoder stays
    losses = [float(row["loss"]) for row in read_log(tmp_path / "small-distillation" / "log.csv")]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[2:10])
    kept, new = weights(teacher), weights(result.path)
    assert torch.equal(new["prompt_encoder.not_a_point_embed.weight"],
                       kept["prompt_encoder.not_a_point_embed.weight"].half().float())  # fmt: skip
    name = "mask_decoder.output_upscaling.0.weight"
    assert not torch.equal(new[name], kept[name].half().float())


@pytest.mark.parametrize("kind", ["tiny_vit", "vit-small", "pyramid"])
def test_every_student_of_a_sam(
    kind: Any, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = write_teacher(tmp_path / "teacher.safetensors", TINY_VIT)
    config = replace(CONFIG, steps=1, batch_size=1, checks=1)
    result = distil(teacher, paths, tmp_path / "small.safetensors", kind, config)
    model = load_model(result.path)
    assert model.config == students.student_config(TINY_VIT, kind)
    assert model.config.mask_decoder == TINY_VIT.mask_decoder
    assert 0 < result.checks[-1].loss < 10


class StoppedError(Exception):
    pass


def stop_at(step: int) -> Hooks:
    def on_progress(now: Any) -> None:
        if now.stage == "student" and now.done == step:
            raise StoppedError

    return Hooks(on_progress=on_progress)


def test_a_stopped_run_goes_on_to_the_same_weights_without_the_teachers_work(
    teacher: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, decoder_steps=2)
    whole = distil(teacher, paths, tmp_path / "whole.safetensors", "pyramid", config)
    path = tmp_path / "small.safetensors"
    for step in (2, 5):
        with pytest.raises(StoppedError):
            distil(teacher, paths, path, "pyramid", config, save_every_seconds=0,
                   hooks=stop_at(step), name="whole")  # fmt: skip
        assert not path.exists()
        # The teacher has done its work.
        monkeypatch.setattr(lesson, "encode_rgb", lambda *_: pytest.fail("it was encoded again"))
    result = distil(teacher, paths, path, "pyramid", config, name="whole")
    again = weights(path)
    for name, value in weights(whole.path).items():
        assert torch.equal(value, again[name]), name
    assert result.checks == whole.checks


def test_a_run_goes_on_only_with_the_same(teacher: Path, paths: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    with pytest.raises(StoppedError):
        distil(teacher, paths, path, "pyramid", CONFIG, save_every_seconds=0, hooks=stop_at(3))
    with pytest.raises(TrainingError, match=r"another recipe \(different: config.clicks\)"):
        distil(teacher, paths, path, "pyramid", replace(CONFIG, clicks=5))
    again = distil(teacher, paths, path, "pyramid", replace(CONFIG, clicks=5), overwrite=True)
    assert again.checks[-1].clicks == 5


def test_what_exists_is_not_replaced(teacher: Path, paths: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"small\.safetensors exists: choose another name, or"):
        distil(teacher, paths, path, "pyramid", CONFIG)
    assert path.read_bytes() == b"mine"
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got 'small.pth'"):
        distil(teacher, paths, tmp_path / "small.pth", "pyramid", CONFIG)


def test_a_student_without_finer_maps_is_refused_before_any_work(
    paths: list[Path], tmp_path: Path
) -> None:
    teacher = write_teacher(tmp_path / "teacher.safetensors", TINY_PYRAMID)
    with pytest.raises(UnsuitableModelError, match="choose the student pyramid"):
        distil(teacher, paths, tmp_path / "small.safetensors", "tiny_vit", CONFIG)


def test_no_pictures(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no picture to learn from"):
        distil(teacher, [], tmp_path / "small.safetensors", "pyramid", CONFIG)


def test_a_disk_that_cannot_hold_the_embeddings(
    teacher: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = lesson.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(lesson.shutil, "disk_usage", lambda _: usage)
    message = r"embeddings of 5 pictures need .* more, and 0.0 MB are free in .*; choose a work"
    with pytest.raises(OutputError, match=message):
        distil(teacher, paths, tmp_path / "small.safetensors", "pyramid", CONFIG)


def test_a_loss_that_is_no_number(
    teacher: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = distillation.map_loss
    monkeypatch.setattr(distillation, "map_loss", lambda *_: loss(*_) * float("nan"))
    with pytest.raises(TrainingError, match="the loss of step 0 is not a number"):
        distil(teacher, paths, tmp_path / "small.safetensors", "pyramid", CONFIG)
    assert not (tmp_path / "small.safetensors").exists()


def test_memory_that_runs_out(
    teacher: Path, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB")

    monkeypatch.setattr(distillation, "map_loss", full)
    with pytest.raises(MemoryLimitError, match="distilling with 2 pictures a step ran out of mem"):
        distil(teacher, paths, tmp_path / "small.safetensors", "pyramid", CONFIG)


def test_numbers_out_of_range_are_refused() -> None:
    for values, message in (
        ({"steps": 0}, "^steps must be 1 or more, got 0"),
        ({"decoder_steps": -1}, "^decoder_steps must be 0 or more, got -1"),
        ({"learning_rate": float("nan")}, "^learning_rate must be positive and finite, got"),
        ({"held_out_share": 1.0}, r"held_out_share must lie in \[0, 1\), got 1.0"),
        ({"precision": "half"}, "precision must be auto, bfloat16 or float32, got 'half'"),
    ):
        with pytest.raises(ValueError, match=message):
            DistillationConfig(**values)


def test_equal_answers_have_the_least_loss() -> None:
    torch.manual_seed(0)
    wanted = MaskOutput(torch.randn(3, 4, 8, 8) * 9, torch.rand(3, 4))
    other = MaskOutput(torch.randn(3, 4, 8, 8) * 9, torch.rand(3, 4))
    assert answer_loss(wanted, wanted, (32, 32)) == pytest.approx(0, abs=1e-5)
    assert answer_loss(other, wanted, (32, 32)) > 1
    beyond = wanted.logits.clone()
    beyond[..., 5:, :] = 0  # padding of a picture that is 20 pixels high
    assert torch.equal(
        answer_loss(MaskOutput(beyond, wanted.iou_predictions), wanted, (20, 32)),
        answer_loss(wanted, wanted, (20, 32)),
    )
