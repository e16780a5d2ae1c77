"""The recipe of the shipped model, with a tiny network on small crops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from sam_plugins.errors import TrainingError
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.networks.efficientnet_lite import fold_batch_norms
from sam_plugins.model.training import default
from sam_plugins.model.training.batches import BatchOptions, CropSize
from sam_plugins.model.training.packing import pack_sources
from sam_plugins.model.training.synthetic import synthetic_picture


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


def test_the_pretrained_part_comes_from_its_file(
    tiny_config: SamConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = replace(tiny_config.image_encoder, uses_efficientnet=True)
    monkeypatch.setattr(default, "SHIPPED", replace(tiny_config, image_encoder=encoder))
    options = BatchOptions(crop_sizes=(CropSize(64, 2, 2, 1.0),))
    monkeypatch.setattr(default, "BatchOptions", lambda: options)
    monkeypatch.setattr(default, "_installed_imagenet_file", lambda: None)
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
