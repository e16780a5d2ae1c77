"""The script that averages models, on tiny ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.script_files import load_script

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.passport import Passport


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("average_models")


def model_file(path: Path, seed: int, config: SamConfig) -> Path:
    torch.manual_seed(seed)
    passport = Passport("cells", config, metrics={"a": {"b": 1.0}}, licence="MIT")
    return save_model_file(path, build_sam(config).state_dict(), passport, dtype=torch.float32)


def test_a_mean_has_its_part_of_each_model(
    script: ModuleType, tiny_config: SamConfig, tmp_path: Path
) -> None:
    files = [model_file(tmp_path / f"{seed}.safetensors", seed, tiny_config) for seed in range(2)]
    mean = tmp_path / "mean.safetensors"
    assert script.main([*map(str, files), "-o", str(mean), "--parts", "3", "1"]) == 0
    first, second, made = (load_checkpoint(path) for path in (*files, mean))
    for name, value in made.state_dict.items():
        wanted = 0.75 * first.state_dict[name] + 0.25 * second.state_dict[name]
        # Half precision in the file.
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-4)
    assert made.passport is not None
    assert made.passport.metrics == {}
    assert made.passport.licence == "MIT"
    assert made.passport.parent == first.model_id
    assert made.passport.extra["mean_of"] == {first.model_id: 3.0, second.model_id: 1.0}


def test_models_of_other_architectures_have_no_mean(
    script: ModuleType, tiny_config: SamConfig, tmp_path: Path
) -> None:
    decoder = replace(tiny_config.mask_decoder, mlp_dim=64)
    files = [
        model_file(tmp_path / "a.safetensors", 0, tiny_config),
        model_file(tmp_path / "b.safetensors", 0, replace(tiny_config, mask_decoder=decoder)),
    ]
    models = [load_checkpoint(path) for path in files]
    with pytest.raises(ValueError, match=r"cells-\w+ has another architecture than cells-"):
        script.average(models, [1.0, 1.0])
    for parts in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="parts must be 0 or more, one for each of 2 models"):
            script.average(models, parts)
