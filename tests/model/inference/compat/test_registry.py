"""Models by the names of segment_anything's registry, and by ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import sam_plugins
from sam_plugins import sam_model_registry
from sam_plugins.errors import CheckpointError, UnsafeCheckpointError, WeightsError
from sam_plugins.model.inference.compat import registry
from sam_plugins.model.inference.compat.registry import ARCHITECTURES, architecture_of
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED, VitConfig
from sam_plugins.model.weights.registry import model_entries


@pytest.fixture
def small_vit_b(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """Let "vit_b" be the architecture of the small checkpoint."""
    from sam_plugins.model.weights.loading import load_checkpoint

    monkeypatch.setitem(registry.ARCHITECTURES, "vit_b", load_checkpoint(checkpoint).config)


def test_it_has_the_official_keys_and_ours(official: ModuleType) -> None:
    assert set(official.sam_model_registry) < set(sam_model_registry)
    assert {"vit_t", *(entry.name for entry in model_entries())} < set(sam_model_registry)


def test_the_builders_have_the_official_names(official: ModuleType) -> None:
    names = {name for name in dir(official) if name.startswith("build_sam")}
    assert names == {"build_sam", *(f"build_sam_vit_{size}" for size in "bhl")}
    for name in names:
        theirs, ours = getattr(official, name), getattr(sam_plugins, name)
        keys = [key for key, build in official.sam_model_registry.items() if build is theirs]
        assert ours is sam_model_registry[keys[-1]]


def test_the_architecture_of_a_file_is_recognised(checkpoint: Path, theirs: Any) -> None:
    sam = sam_model_registry["default"](str(checkpoint))
    assert sam.model_id.startswith("small-")
    for name, value in theirs.state_dict().items():
        assert torch.equal(sam.state_dict()[name], value)


@pytest.mark.usefixtures("small_vit_b")
def test_a_file_of_the_architecture_that_was_named(checkpoint: Path) -> None:
    for path in (str(checkpoint), checkpoint):
        assert sam_model_registry["vit_b"](checkpoint=path).image_encoder.img_size == 256
    assert sam_model_registry["vit_b"](path).device.type == "cpu"


@pytest.mark.usefixtures("small_vit_b")
def test_without_a_file_weights_are_random() -> None:
    sam = sam_model_registry["vit_b"]()
    assert sam.model_id == "vit_b-random"
    assert not sam.training
    assert sam.state_dict()["prompt_encoder.no_mask_embed.weight"].std() > 0


@pytest.mark.usefixtures("small_vit_b")
def test_a_file_of_another_architecture(checkpoint: Path) -> None:
    with pytest.raises(
        ValueError, match=r"must hold a 'vit_h', got .*small.pth, which holds 'vit_b'; use 'vit_b'"
    ):
        sam_model_registry["vit_h"](checkpoint=checkpoint)


def test_a_file_of_an_unknown_architecture(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="which holds 'another vit'; use 'default'"):
        sam_model_registry["vit_b"](checkpoint=checkpoint)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_official_architectures_are_told_apart_at_any_size(name: str) -> None:
    config = ARCHITECTURES[name]
    assert architecture_of(config) == name
    smaller = replace(config, image_encoder=replace(config.image_encoder, image_size=512))
    assert architecture_of(smaller) == name
    assert architecture_of(SHIPPED) == "another pyramid"
    assert architecture_of(replace(config, image_encoder=VitConfig(depth=3))) == "another vit"


def test_an_architecture_of_full_size_takes_its_config() -> None:
    with torch.device("meta"):
        network = build_sam(ARCHITECTURES["vit_t"])
    assert network.image_encoder.img_size == 1024


def test_the_shipped_model_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(name_or_path: object) -> None:
        asked.append(name_or_path)
        raise WeightsError("stop here")

    monkeypatch.setattr(registry, "load_checkpoint", load)
    for name in ("default", "mobile_sam"):
        with pytest.raises(WeightsError, match="stop here"):
            sam_model_registry[name]()
    assert asked == ["default", "mobile_sam"]


def test_a_name_without_a_suffix_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the file of weights vit_b does not exist"):
        sam_model_registry["default"](checkpoint="vit_b")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    torch.save({"model": Path}, path)
    with pytest.raises(UnsafeCheckpointError):
        sam_model_registry["vit_b"](checkpoint=path)


def test_a_file_beside_the_name_of_published_weights(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="for 'mobile_sam', which stands for published weights"):
        sam_model_registry["mobile_sam"](checkpoint=checkpoint)


def test_an_unknown_name() -> None:
    with pytest.raises(KeyError, match="no model type is called 'vit_x'; there are default, vit_h"):
        sam_model_registry["vit_x"]
    assert "vit_x" not in sam_model_registry
    assert sam_model_registry.get("vit_x") is None
