"""Fine-tuning: learned from some pictures, measured on others, never worse than the parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model
from tests.quick_training import make_training_quick

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine import fine_tuning
from sam_plugins.model.engine.fine_tuning import FineTuningOptions, TrainingProgress, fine_tune
from sam_plugins.model.engine.held_out import Round, best_round
from sam_plugins.model.engine.learner import choose_what_learns
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import PyramidConfig, SamConfig
from sam_plugins.model.weights.checkpoints import read_weight_file, save_model_file
from sam_plugins.model.weights.passport import Passport


def write_parent(folder: Path, config: SamConfig) -> Path:
    """Write a tiny model with random weights."""
    network = make_model(config, "tiny").network
    passport = Passport("tiny", config, version="1", licence="CC0")
    return save_model_file(folder / "tiny.safetensors", network.state_dict(), passport)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A tiny pyramid."""
    return write_parent(tmp_path, TINY_PYRAMID)


@pytest.fixture
def files(tmp_path: Path) -> list[LabelledFile]:
    """Four pictures with three discs each."""
    for seed in range(4):
        labels = discs(seed)
        for kind, pixels in (("images", picture_of(labels)), ("labels", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{seed}.png")
    return list_folder_pair(tmp_path / "images", tmp_path / "labels")


@pytest.fixture(autouse=True)
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_quick(monkeypatch)


def test_the_best_round_is_written_with_its_proof(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    seen: list[TrainingProgress] = []
    options = FineTuningOptions(steps=60, rounds=3, learning_rate=1e-2)
    path = tmp_path / "new.safetensors"
    result = fine_tune(parent, files[:2], files[2:], path, options, on_progress=seen.append)

    assert [one.step for one in result.rounds] == [0, 20, 40, 60, 60, 60]
    assert [one.share for one in result.rounds] == [1, 1, 1, 1, 0.6, 0.3]
    assert result.best is best_round(result.rounds)
    assert result.is_better
    assert [one.step for one in seen if one.loss is not None] == list(range(1, 61))
    assert [one.step for one in seen if one.figures is not None] == [20, 40, 60, 60, 60]
    # The parent is measured before the first step, which takes a while: people see how far.
    before = [one.measuring for one in seen[: [one.step for one in seen].index(1)]]
    assert sorted(set(before)) == [(0, 2), (1, 2), (2, 2)]
    assert set(result.best.figures) == {"one click", "3 clicks", "5 clicks", "box", "mSA"}
    assert set(result.best.pictures) == {f"{f.set_name}/{f.id}" for f in files[2:]}

    model = load_model(path)
    assert model.passport is not None
    assert model.passport.parent == load_model(parent).model_id == result.comparison.parent
    assert model.passport.metrics == {"held out": dict(result.best.figures)}
    assert model.passport.licence == "CC0"
    (source,) = model.passport.training_data
    assert (source.pictures, source.objects) == (2, 6)
    assert result.comparison.pictures == 2
    assert result.comparison.value == result.best.value > result.comparison.parent_value
    # What was measured is what was written, but for the rounding to float16.
    short = FineTuningOptions(steps=1, rounds=1)
    again = fine_tune(path, files[:2], files[2:], tmp_path / "third.safetensors", short)
    assert again.rounds[0].value == pytest.approx(result.best.value, abs=0.01)


def test_weights_a_part_of_the_way_are_kept_where_they_are_best(
    parent: Path, files: list[LabelledFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter((0.5, 0.4, 0.6))

    def measured(model: object, step: int, *_: object, share: float = 1.0, **__: object) -> Round:
        return Round(step, {"a": next(values)}, {}, share=share)

    monkeypatch.setattr(fine_tuning, "measure_round", measured)
    options = FineTuningOptions(steps=4, rounds=1, learning_rate=1e-2, shares=(0.25,))
    path = tmp_path / "new.safetensors"
    result = fine_tune(parent, files[:2], files[2:], path, options)
    assert (result.best.step, result.best.share) == (4, 0.25)
    passport = load_model(path).passport
    assert passport is not None
    assert passport.extra["share"] == 0.25
    values = iter((0.5, 0.6))
    last = tmp_path / "last.safetensors"
    fine_tune(parent, files[:2], files[2:], last, replace(options, shares=()))
    before, part, after = (read_weight_file(one).state_dict for one in (parent, path, last))
    name = "mask_decoder.mask_tokens.weight"
    wanted = before[name].float() + 0.25 * (after[name].float() - before[name].float())
    assert not torch.equal(before[name], after[name])
    torch.testing.assert_close(part[name].float(), wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("config", [TINY_PYRAMID, TINY_VIT], ids=["pyramid", "vit"])
@pytest.mark.parametrize("method", ["decoder", "full", "lora"])
def test_what_does_not_help_leaves_the_parent(
    files: list[LabelledFile], tmp_path: Path, method: fine_tuning.Method, config: SamConfig
) -> None:
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed (extra: train)")
    parent = write_parent(tmp_path, config)
    options = FineTuningOptions(method, steps=4, rounds=2, learning_rate=1e-12)
    path = tmp_path / "new.safetensors"
    result = fine_tune(parent, files[:2], files[2:], path, options)
    assert not result.is_better
    assert result.best is result.rounds[0]
    assert not result.comparison.is_better
    before, after = read_weight_file(parent).state_dict, read_weight_file(path).state_dict
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", ["decoder", "full"])
def test_the_image_encoder_learns_only_where_it_shall(method: fine_tuning.Method) -> None:
    assert isinstance(TINY_PYRAMID.image_encoder, PyramidConfig)
    encoder = replace(TINY_PYRAMID.image_encoder, uses_efficientnet=True)
    network = build_sam(replace(TINY_PYRAMID, image_encoder=encoder))
    choose_what_learns(network, method)
    learning = {name for name, value in network.named_parameters() if value.requires_grad}
    for name, _ in network.named_parameters():
        is_encoder = name.startswith("image_encoder.")
        never = name.startswith("image_encoder.pretrained.features.")
        assert (name in learning) is not (never or (is_encoder and method == "decoder"))


def test_an_interrupted_run_keeps_what_was_better(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    path = tmp_path / "new.safetensors"

    def stop(now: TrainingProgress, at: int, error: BaseException) -> None:
        if now.step >= at and now.loss is not None:
            raise error

    options = FineTuningOptions(steps=60, rounds=3, learning_rate=3e-3)
    order = SystemExit(143)  # Of a batch system, say.
    result = fine_tune(
        parent, files[:2], files[2:], path, options, on_progress=lambda now: stop(now, 50, order)
    )
    assert result.stopped_by is order
    assert result.best.step == 40
    assert load_model(path).passport is not None
    assert sorted(one.name for one in tmp_path.glob("*.safetensors")) == [
        "new.safetensors",
        "tiny.safetensors",
    ]
    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            parent,
            files[:2],
            files[2:],
            path,
            options,
            on_progress=lambda now: stop(now, 5, KeyboardInterrupt()),
        )


def test_a_place_that_cannot_be_is_refused_before_training(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got 'new\.pth'"):
        fine_tune(parent, files[:2], files[2:], tmp_path / "new.pth")


def test_pictures_are_learned_from_or_measured_on(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    path = tmp_path / "new.safetensors"
    with pytest.raises(DatasetError, match=r"1\.png is learned from and measured on"):
        fine_tune(parent, files[:2], files[1:], path)
    with pytest.raises(DatasetError, match="needs pictures to learn from and other ones"):
        fine_tune(parent, files, [], path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("empty", "message"),
    [(slice(0, 2), "no training picture"), (slice(2, 4), "no held-out picture")],
)
def test_pictures_without_objects_teach_nothing(
    parent: Path, files: list[LabelledFile], tmp_path: Path, empty: slice, message: str
) -> None:
    for file in files[empty]:
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(file.label_path)
    with pytest.raises(DatasetError, match=message):
        fine_tune(parent, files[:2], files[2:], tmp_path / "new.safetensors")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "half"}, "method must be one of full, decoder, lora, got 'half'"),
        ({"steps": 3, "rounds": 4}, "rounds must lie between 1 and steps, got 4 rounds of 3"),
        ({"steps": 3, "rounds": 0}, "rounds must lie between 1 and steps, got 0 rounds of 3"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite"),
        ({"seed": -1}, "seed must lie between 0 and"),
        ({"seed": 2**63}, "seed must lie between 0 and"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineTuningOptions(**values)  # type: ignore[arg-type]
