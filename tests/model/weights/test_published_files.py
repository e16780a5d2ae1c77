"""The names in the files that people have: nothing is missing, and what is left over is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import MOBILE_SAM, SAM_VIT_B, SAM_VIT_H, SAM_VIT_L, SamConfig
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.recognition import matching_state, recognise


@pytest.mark.parametrize(
    ("name", "config"), [("vit_b", SAM_VIT_B), ("vit_l", SAM_VIT_L), ("vit_h", SAM_VIT_H)]
)
def test_sam_as_segment_anything_saves_it(
    official: ModuleType, name: str, config: SamConfig
) -> None:
    """Also MedSAM's and micro-sam's files, which are SAM ViT-B or L with other weights."""
    with torch.device("meta"):
        state = official.sam_model_registry[name]().state_dict()
    assert recognise(state) == config
    found, left_aside = matching_state(config, state)
    assert found.keys() == state.keys()
    assert left_aside == ()


def mobile_sam_names() -> Iterator[str]:
    """The names in ``mobile_sam.pt``, spelt out from its architecture."""
    encoder = "image_encoder"
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def conv_norm(name: str) -> Iterator[str]:
        yield f"{name}.c.weight"
        yield from (f"{name}.bn.{part}" for part in norm)

    def layers(name: str, *parts: str) -> Iterator[str]:
        yield from (f"{name}.{part}.{kind}" for part in parts for kind in ("weight", "bias"))

    yield from conv_norm(f"{encoder}.patch_embed.seq.0")
    yield from conv_norm(f"{encoder}.patch_embed.seq.2")
    for stage, depth in enumerate((2, 2, 6, 2)):
        for index in range(depth):
            block = f"{encoder}.layers.{stage}.blocks.{index}"
            if stage == 0:
                for number in (1, 2, 3):
                    yield from conv_norm(f"{block}.conv{number}")
                continue
            yield f"{block}.attn.attention_biases"
            yield from layers(block, "attn.norm", "attn.qkv", "attn.proj")
            yield from layers(block, "mlp.norm", "mlp.fc1", "mlp.fc2")
            yield from conv_norm(f"{block}.local_conv")
        if stage < 3:
            for number in (1, 2, 3):
                yield from conv_norm(f"{encoder}.layers.{stage}.downsample.conv{number}")
    yield f"{encoder}.neck.0.weight"
    yield f"{encoder}.neck.2.weight"
    yield from layers(f"{encoder}.neck", "1", "3")


CLASSIFIER = [
    f"image_encoder.{part}.{kind}" for part in ("norm_head", "head") for kind in ("weight", "bias")
]
BUFFERS = [
    f"image_encoder.layers.{stage}.blocks.0.attn.{buffer}"
    for stage in (1, 2, 3)
    for buffer in ("attention_bias_idxs", "ab")
]


def test_mobile_sam(official: ModuleType) -> None:
    with torch.device("meta"):
        state = build_sam(MOBILE_SAM).state_dict()
        decoder = {
            name: tensor
            for name, tensor in official.sam_model_registry["vit_b"]().state_dict().items()
            if not name.startswith("image_encoder.")
        }
    names = [*mobile_sam_names(), *decoder]
    assert sorted(names) == sorted(state)
    # Its file also brings TinyViT's classifier, and its program keeps numbers that follow from
    # the others: indices of biases, and biases that were looked up.
    extra = {name: torch.zeros(1) for name in (*CLASSIFIER, *BUFFERS)}
    file = {**state, **decoder, **extra}
    assert recognise(file) == MOBILE_SAM
    found, left_aside = matching_state(MOBILE_SAM, file)
    assert sorted(found) == sorted(names)
    assert sorted(left_aside) == sorted(extra)


WRAPPED = {
    "MedSAM while training": ("model", "", {"optimizer": {"state": {}}, "epoch": 3}),
    "micro-sam while training": (
        "model_state",
        "sam.",
        {"decoder_state": {"out_conv.weight": torch.ones(1)}, "iteration": 7, "init": {}},
    ),
    "micro-sam, the trainer's name": ("model_state", "sam.", {}),
    "several GPUs": ("state_dict", "module.", {"epoch": 1}),
    "several GPUs and a wrapper": ("model_state", "module.sam.", {}),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_weights_inside_what_training_programs_save(
    tmp_path: Path, tiny_config: SamConfig, tiny_state: dict[str, Tensor], case: str
) -> None:
    key, prefix, beside = WRAPPED[case]
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tiny_state.items()}
    torch.save({key: wrapped, **beside}, tmp_path / "best.pt")
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded.config == tiny_config
    assert len(loaded.left_aside) == len(beside)
    for name, tensor in tiny_state.items():
        torch.testing.assert_close(loaded.state_dict[name], tensor, rtol=0, atol=0)
    build_sam(loaded.config).load_state_dict(loaded.state_dict, strict=True)


def test_other_tensors_beside_the_wrapped_model_are_named(
    tmp_path: Path, tiny_state: dict[str, Tensor]
) -> None:
    wrapped = {f"sam.{name}": tensor for name, tensor in tiny_state.items()}
    torch.save({"model_state": {**wrapped, "transform.scale": torch.ones(2)}}, tmp_path / "best.pt")
    assert load_checkpoint(tmp_path / "best.pt").left_aside == ("transform (1 tensor)",)
