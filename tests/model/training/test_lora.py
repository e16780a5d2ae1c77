"""Adapters on image encoders: nothing changes at first, and merged they compute the same."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT

from sam_plugins.errors import MissingExtraError, OutputError, TrainingError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import PyramidConfig, SamConfig, TinyVitConfig
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.lora import (
    CONFIG_NAME,
    add_lora,
    has_lora,
    load_adapter,
    merged_state,
    save_adapter,
)

assert isinstance(TINY_PYRAMID.image_encoder, PyramidConfig)
CONFIGS = {
    "vit": TINY_VIT,
    "tiny_vit": replace(
        TINY_VIT,
        image_encoder=TinyVitConfig(
            (8, 8, 16, 16), (1, 1, 1, 1), (2,) * 4, image_size=128, out_dim=32
        ),
    ),
    "pyramid": replace(
        TINY_PYRAMID, image_encoder=replace(TINY_PYRAMID.image_encoder, uses_efficientnet=True)
    ),
}  # fmt: skip


def built(config: SamConfig) -> Sam:
    torch.manual_seed(0)
    return build_sam(config).eval()


def stirred(network: Sam) -> Sam:
    """Give adapters that do something."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if ".lora_B." in name:
                value.normal_(0, 0.3)
    return network


@pytest.mark.parametrize("kind", CONFIGS)
def test_adapters_learn_and_can_be_merged(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra: train)")
    parent = built(CONFIGS[kind])
    network = copy.deepcopy(parent)
    pixels = torch.randn(1, 3, 128, 128)
    before = parent.encode(pixels).named_tensors()
    add_lora(network, rank=2, seed=0)
    for name, value in network.encode(pixels).named_tensors().items():
        assert torch.equal(value, before[name])
    learning = {n for n, p in network.image_encoder.named_parameters() if p.requires_grad}
    assert learning
    assert all(".lora_" in name for name in learning)
    assert has_lora(network)
    assert not has_lora(parent)
    assert all(value.requires_grad for value in network.mask_decoder.parameters())

    stirred(network)
    after = network.encode(pixels).named_tensors()
    sum(value.square().sum() for value in after.values()).backward()
    for name, value in network.named_parameters():
        if ".lora_" in name:  # no adapter is bypassed
            assert value.grad is not None, name
            assert float(value.grad.abs().sum()) > 0, name

    merged = copy.deepcopy(parent)
    merged.load_state_dict(merged_state(network, network.state_dict()))
    restored = copy.deepcopy(parent)
    load_adapter(restored, save_adapter(tmp_path / "a", network, network.state_dict(), "parent"))
    for name, value in after.items():
        assert not torch.allclose(value, before[name], atol=1e-2)
        assert torch.allclose(merged.encode(pixels).named_tensors()[name], value, atol=1e-4)
        assert torch.allclose(restored.encode(pixels).named_tensors()[name], value, atol=1e-6)


def test_adapters_of_another_architecture_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (extra: train)")
    network = built(TINY_VIT)
    add_lora(network, rank=2, seed=0)
    folder = save_adapter(tmp_path / "a", network, network.state_dict(), "tiny-1")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 30_000
    with pytest.raises(TrainingError, match=r"another architecture .* its parent, tiny-1"):
        load_adapter(built(TINY_PYRAMID), folder)
    (folder / CONFIG_NAME).write_text("{}")
    with pytest.raises(TrainingError, match="holds no adapter that we can read"):
        load_adapter(built(TINY_VIT), folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot create the folder"):
        save_adapter(tmp_path / "file", network, network.state_dict(), "tiny-1")


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r'needs the library peft.*"sam-plugins\[train\]"'):
        add_lora(built(TINY_VIT), rank=2, seed=0)
    with pytest.raises(ValueError, match="rank of the adapters must be 1 or more, got 0"):
        add_lora(built(TINY_VIT), rank=0, seed=0)
