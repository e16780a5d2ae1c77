"""The recipe of the shipped model, with a tiny network on small crops."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from sam_plugins.errors import TrainingError
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.networks.efficientnet_lite import fold_batch_norms
from sam_plugins.model.training import default
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.difficulty import foreground_errors
from sam_plugins.model.training.losses import LossWeights
from sam_plugins.model.training.packing import load_pack, pack_sources
from sam_plugins.model.training.state import recorded_recipe
from sam_plugins.model.training.synthetic import synthetic_picture
from sam_plugins.model.weights.checkpoints import read_weight_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.registry import find_entry


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """One set of two pictures."""
    folder = tmp_path / "data" / "cells"
    files = []
    for number in range(2):
        picture = synthetic_picture(np.random.default_rng(number), 200)
        for kind, pixels in (("images", picture.rgb), ("labels", picture.labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
        files.append(
            {
                "id": str(number),
                "split": "train",
                "image": f"images/{number}.png",
                "label": f"labels/{number}.png",
                "image_shape": [200, 200, 3],
                "modality": "fluorescence",
            }
        )
    manifest = {"name": "cells", "licence": "CC0", "annotation_complete": True, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder.parent


def test_slices_end_in_a_model_with_a_passport(
    tiny_config: SamConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default, "SHIPPED", tiny_config)
    options = BatchOptions(crop_sizes=(CropSize(64, 2, 2, 1.0),))
    monkeypatch.setattr(default, "BatchOptions", lambda: options)
    state = tmp_path / "run"
    common = ["--state", str(state), "--steps", "4", "--workers", "0", "--device", "cpu"]
    assert default.main([str(data_dir), *common, "--stop-at", "2"]) == 0
    first = load_model(state / "default.safetensors")
    assert default.main([str(data_dir), *common]) == 0

    log = [json.loads(line) for line in (state / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    model = load_model(state / "default.safetensors")
    assert model.model_id != first.model_id
    assert model.passport is not None
    assert model.passport.training_data == tuple(pack_sources(state / "pack.zip"))
    assert model.passport.extra["training"]["steps_done"] == 4
    assert model.passport.parent is None

    child = ["--state", str(tmp_path / "child"), *common[2:]]
    start = str(state / "default.safetensors")
    assert default.main([str(data_dir), *child, "--start-from", start]) == 0
    passport = load_model(tmp_path / "child" / "default.safetensors").passport
    assert passport is not None
    assert passport.parent == model.model_id
    assert not (tmp_path / "child" / "difficulty.json").exists()  # Nobody asked for hard pictures.


def test_the_recipe_runs_its_stages(
    tiny_config: SamConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each for one step: from scratch with AdamW, then from its weights with Muon."""
    monkeypatch.setattr(default, "SHIPPED", tiny_config)
    options = BatchOptions(crop_sizes=(CropSize(64, 2, 2, 1.0),))
    monkeypatch.setattr(default, "BatchOptions", lambda: options)
    command = [
        str(data_dir), "--recipe", "--state", str(tmp_path), "--stop-at", "1", "--version", "10",
        "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    assert default.main(command) == 0
    first, last = (
        load_model(tmp_path / f"stage-{number}" / "default.safetensors") for number in (1, 2)
    )
    assert first.passport is not None
    assert last.passport is not None
    assert (first.passport.parent, last.passport.parent) == (None, first.model_id)
    assert {first.passport.version, last.passport.version} == {"10"}
    made, wanted = first.passport.extra["training"], last.passport.extra["training"]
    assert (made["steps"], made["learning_rate"], made["optimizer"]) == (12_000, 3e-4, "adamw")
    # What the passport of the shipped file says of its last training.
    shipped = read_weight_file(find_entry("default").path).passport
    assert shipped is not None
    told = shipped.extra["training"]
    # What came after it is off.
    told = {**told, "losses": {**asdict(LossWeights()), **told["losses"]}}
    for name in wanted.keys() - {"seed", "steps", "steps_done"}:
        assert wanted[name] == told[name], name
    drawn = last.passport.extra["batches"]
    for name, value in shipped.extra["batches"].items():
        assert name == "crop_sizes" or drawn[name] == value, name
    measured = json.loads((tmp_path / "stage-2" / "difficulty.json").read_text())
    assert measured["model"] == first.model_id
    assert [name for name, _ in measured["errors"]] == ["cells/0", "cells/1"]
    assert not (tmp_path / "stage-1" / "difficulty.json").exists()
    with pytest.raises(SystemExit):
        default.main([str(data_dir), "--hard-pictures"])  # Nobody saw them yet.
    for wrong in (["--start-from", "default"], ["--seconds", "9"]):
        with pytest.raises(SystemExit):
            default.main([*command, *wrong])


@pytest.fixture
def recipe_command(
    tiny_config: SamConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The recipe with a tiny network, without where to stop."""
    monkeypatch.setattr(default, "SHIPPED", tiny_config)
    options = BatchOptions(crop_sizes=(CropSize(64, 2, 2, 1.0),))
    monkeypatch.setattr(default, "BatchOptions", lambda: options)
    return [
        str(data_dir), "--recipe", "--state", str(tmp_path), "--workers", "0", "--device", "cpu",
    ]  # fmt: skip


def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every later time be told as one that has not come yet."""
    made = default.Passport
    monkeypatch.setattr(
        default, "Passport", lambda **values: made(**values, created="2999-01-01T00:00:00+00:00")
    )


def test_the_recipe_goes_on_as_it_was(
    recipe_command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert default.main([*recipe_command, "--stop-at", "1"]) == 0
    files = [tmp_path / f"stage-{number}" / "default.safetensors" for number in (1, 2)]
    before = [path.read_bytes() for path in files]
    measured = (tmp_path / "stage-2" / "difficulty.json").stat().st_mtime_ns
    begun_with = load_model(files[0]).model_id

    _later(monkeypatch)
    capsys.readouterr()
    assert default.main([*recipe_command, "--stop-at", "1"]) == 0
    assert [path.read_bytes() for path in files] == before
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"1 of {steps} steps, {path} is left as it is"
        for steps, path in zip((12_000, 1_500), files, strict=True)
    ]

    # The first stage goes further; the second goes on from that with which it began.
    assert default.main([*recipe_command, "--stop-at", "2"]) == 0
    told_later = capsys.readouterr().err
    first, second = (load_model(path) for path in files)
    assert first.model_id != begun_with
    assert second.passport is not None
    assert second.passport.parent == begun_with
    assert second.passport.extra["training"]["steps_done"] == 2
    assert load_model(tmp_path / "stage-2" / "parent.safetensors").model_id == begun_with
    assert (tmp_path / "stage-2" / "difficulty.json").stat().st_mtime_ns == measured
    assert (
        f"goes on from {begun_with}, with which it began, and not from {first.model_id}"
    ) in told_later

    # What is damaged is written again from the state, and no parent but that is asked for.
    files[1].write_bytes(b"")
    files[0].unlink()
    second_alone = [
        *recipe_command[:1], "--state", str(tmp_path / "stage-2"), *recipe_command[4:],
        "--start-from", str(files[0]), "--steps", "1500", "--stop-at", "2",
        "--learning-rate", "2e-4", "--optimizer", "muon", "--muon-scale", "2", "--seed", "1",
        "--plain-share", "0.5", "--hard-pictures", "--dsb2018-share", "0.35",
    ]  # fmt: skip
    assert default.main(second_alone) == 0
    again = load_model(files[1])
    assert again.passport is not None
    assert again.passport.parent == begun_with
    assert again.passport.created.startswith("2999")


def test_a_run_that_keeps_no_parent_is_not_gone_on_with(
    recipe_command: list[str], tmp_path: Path
) -> None:
    command = [*recipe_command, "--stop-at", "1"]
    assert default.main(command) == 0
    (tmp_path / "stage-2" / "parent.safetensors").unlink()
    with pytest.raises(
        TrainingError, match=r"stage-2 has begun and keeps no parent\.safetensors: "
    ):
        default.main(command)


def test_hard_pictures_are_those_that_the_parent_sees_badly(
    recipe_command: list[str], tmp_path: Path
) -> None:
    assert default.main([*recipe_command, "--stop-at", "1"]) == 0
    stage = tmp_path / "stage-2"
    pictures = load_pack(tmp_path / "stage-1" / "pack.zip")
    loaded = load_checkpoint(tmp_path / "stage-1" / "default.safetensors")
    parent = build_sam(loaded.config)
    parent.load_state_dict(loaded.state_dict)
    errors = foreground_errors(parent, pictures)
    measured = json.loads((stage / "difficulty.json").read_text())["errors"]
    assert [error for _, error in measured] == pytest.approx(errors, abs=2e-4)
    assert abs(errors[0] - errors[1]) > 0.01

    chances = [error + 0.05 for _, error in measured]
    drawn = BatchMaker(pictures, BatchOptions(), 1, chances)
    recorded = recorded_recipe(stage / "state.safetensors")
    assert recorded["data_digest"] == drawn.data_digest
    assert recorded["data_digest"] != BatchMaker(pictures, BatchOptions(), 1).data_digest
    # The first stage draws all alike.
    recorded = recorded_recipe(tmp_path / "stage-1" / "state.safetensors")
    assert recorded["data_digest"] == BatchMaker(pictures, BatchOptions(), 0).data_digest


def test_the_pretrained_part_comes_from_its_file(
    tiny_config: SamConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = replace(tiny_config.image_encoder, uses_efficientnet=True)
    monkeypatch.setattr(default, "SHIPPED", replace(tiny_config, image_encoder=encoder))
    options = BatchOptions(crop_sizes=(CropSize(64, 2, 2, 1.0),))
    monkeypatch.setattr(default, "BatchOptions", lambda: options)
    monkeypatch.setattr(default, "installed_imagenet_file", lambda: None)
    common = ["--steps", "1", "--workers", "0", "--device", "cpu"]
    first = [str(data_dir), "--state", str(tmp_path / "first"), *common]
    with pytest.raises(TrainingError, match="needs the weights of EfficientNet-Lite 0"):
        default.main(first)
    wrong = tmp_path / "wrong.pth"
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, wrong)
    with pytest.raises(TrainingError, match=r"wrong\.pth is no EfficientNet-Lite 0: '_bn0"):
        default.main([*first, "--imagenet", str(wrong)])

    torch.manual_seed(0)
    imagenet = tmp_path / "efficientnet-lite0-00000000.pth"
    torch.save(EfficientNet.from_name("efficientnet-lite0").state_dict(), imagenet)
    assert default.main([*first, "--imagenet", str(imagenet)]) == 0
    path = tmp_path / "first" / "default.safetensors"
    model = load_model(path)
    assert model.passport is not None
    source = model.passport.training_data[-1]
    assert source.name == f"ImageNet-1k, through EfficientNet-Lite 0 ({imagenet.name})"
    assert len(source.sha256) == 64
    weights = fold_batch_norms(torch.load(imagenet))
    kept = model.network.state_dict()["image_encoder.pretrained.features.stem.weight"]
    torch.testing.assert_close(kept, weights["stem.weight"], rtol=1e-3, atol=1e-4)  # float16

    # A child has it from its parent, and says so.
    child = [str(data_dir), "--state", str(tmp_path / "child"), *common, "--start-from", str(path)]
    assert default.main(child) == 0
    passport = load_model(tmp_path / "child" / "default.safetensors").passport
    assert passport is not None
    assert passport.training_data[-1] == source

    other = replace(tiny_config.image_encoder, stage_dims=(8, 16, 16, 16))
    monkeypatch.setattr(default, "SHIPPED", replace(tiny_config, image_encoder=other))
    with pytest.raises(TrainingError, match="another architecture"):
        default.main([*child[:2], str(tmp_path / "other"), *child[3:]])
