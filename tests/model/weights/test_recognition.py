"""Architectures told by names and shapes alone."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from sam_plugins.errors import CheckpointError, ForeignCheckpointError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    MOBILE_SAM,
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    MaskDecoderConfig,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
    TinyVitConfig,
    VitConfig,
)
from sam_plugins.model.weights.recognition import matching_state, recognise

TINY_VIT = TinyVitConfig(
    embed_dims=(8, 16, 24, 32),
    depths=(1, 2, 1, 3),
    num_heads=(2, 2, 3, 4),
    window_sizes=(7, 3, 5, 4),
    mlp_ratio=2.0,
    out_dim=32,
)


def meta_state(config: SamConfig) -> dict[str, Tensor]:
    """Names and shapes without memory."""
    with torch.device("meta"):
        return build_sam(config).state_dict()


@pytest.mark.parametrize("config", [SAM_VIT_B, SAM_VIT_L, SAM_VIT_H, MOBILE_SAM])
def test_the_published_variants(config: SamConfig) -> None:
    state = meta_state(config)
    assert recognise(state) == config
    assert matching_state(config, state)[0].keys() == state.keys()


def test_every_number_of_a_vit_is_read(tiny_config: SamConfig) -> None:
    assert recognise(meta_state(tiny_config)) == tiny_config


@pytest.mark.parametrize("global_attention_blocks", [(0, 1, 2), ()])
def test_a_vit_with_one_kind_of_attention(
    tiny_config: SamConfig, global_attention_blocks: tuple[int, ...]
) -> None:
    assert isinstance(tiny_config.image_encoder, VitConfig)
    config = dataclasses.replace(
        tiny_config,
        image_encoder=dataclasses.replace(
            tiny_config.image_encoder,
            global_attention_blocks=global_attention_blocks,
            window_size=14 if global_attention_blocks else 3,
        ),
    )
    assert recognise(meta_state(config)) == config


def test_every_number_of_a_tiny_vit_is_read(tiny_config: SamConfig) -> None:
    config = SamConfig(TINY_VIT, tiny_config.prompt_encoder, tiny_config.mask_decoder)
    assert recognise(meta_state(config)) == config


def test_text_prompts_are_noticed(tiny_config: SamConfig) -> None:
    prompts = PromptEncoderConfig(mask_in_dim=8, text_dim=12)
    config = dataclasses.replace(tiny_config, prompt_encoder=prompts)
    assert recognise(meta_state(config)) == config


def test_what_networks_have_no_use_for_is_left_aside(
    tiny_config: SamConfig, tiny_state: dict[str, Tensor]
) -> None:
    extra = {"pixel_mean": torch.zeros(3), "image_encoder.norm_head.weight": torch.zeros(3)}
    state, left_aside = matching_state(tiny_config, {**tiny_state, **extra})
    assert left_aside == tuple(extra)
    assert state.keys() == tiny_state.keys()


def test_missing_and_surplus_names_and_other_shapes_are_named(
    tiny_config: SamConfig, tiny_state: dict[str, Tensor]
) -> None:
    few = {n: t for n, t in tiny_state.items() if not n.startswith("image_encoder.neck")}
    with pytest.raises(
        CheckpointError,
        match=r"do not fit their architecture \(vit\): 6 missing: image_encoder.neck.0.*and 3 more",
    ):
        matching_state(tiny_config, few)
    with pytest.raises(
        CheckpointError, match=r"1 left over: image_encoder.adapter\. The file belongs"
    ):
        matching_state(tiny_config, {**tiny_state, "image_encoder.adapter": torch.ones(1)})
    name = "mask_decoder.iou_token.weight"
    with pytest.raises(
        CheckpointError, match=rf"1 of another shape: {name} \(\(2, 3\), expected \(1, 32\)\)"
    ):
        matching_state(tiny_config, {**tiny_state, name: torch.ones(2, 3)})


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
def test_whole_numbers_and_truth_values_are_no_weights(
    tiny_config: SamConfig, tiny_state: dict[str, Tensor], dtype: torch.dtype
) -> None:
    codes = {name: tensor.to(dtype) for name, tensor in tiny_state.items()}
    message = (
        rf"weights must be floating numbers, got \S+ \({dtype}\), .* and \d+ more: .*quantised"
    )
    with pytest.raises(CheckpointError, match=message):
        matching_state(tiny_config, codes)
    name = "mask_decoder.iou_token.weight"
    with pytest.raises(CheckpointError, match=rf"got {name} \({dtype}\): the file"):
        matching_state(tiny_config, {**tiny_state, name: codes[name]})


def test_what_a_network_counts_may_be_whole_numbers() -> None:
    config = SamConfig(TINY_VIT)
    state = meta_state(config)
    assert any(not tensor.is_floating_point() for tensor in state.values())
    assert matching_state(config, state)[0].keys() == state.keys()


def test_an_incomplete_sam_is_not_called_foreign(tiny_state: dict[str, Tensor]) -> None:
    state = {n: t for n, t in tiny_state.items() if n.startswith("image_encoder")}
    with pytest.raises(CheckpointError, match=r"begin like a SAM but prompt_encoder\S+ is missing"):
        recognise(state)


@pytest.mark.parametrize(
    ("kind", "name", "shape", "reason"),
    [
        ("vit", "patch_embed.proj.weight", (7,), r"should have 4 axes, not the shape \(7,\)"),
        ("vit", "pos_embed", (), "tuple index out of range"),
        ("vit", "blocks.1.attn.rel_pos_h", (5,), r"should have 2 axes, not the shape \(5,\)"),
        ("vit", "blocks.0.attn.rel_pos_h", (5, 0), "by zero"),
        ("vit", "patch_embed.proj.weight", (0, 3, 16, 16), "by zero"),
        ("vit", "neck.0.weight", (), "tuple index out of range"),
        ("tiny_vit", "layers.1.blocks.0.attn.attention_biases", (4,), "should have 2 axes"),
        ("tiny_vit", "layers.1.blocks.0.attn.proj.weight", (0, 0), "by zero"),
    ],
)
def test_shapes_that_no_sam_has_are_foreign(
    tiny_config: SamConfig, kind: str, name: str, shape: tuple[int, ...], reason: str
) -> None:
    config = tiny_config
    if kind == "tiny_vit":
        config = dataclasses.replace(config, image_encoder=TINY_VIT)
    state = meta_state(config)
    assert f"image_encoder.{name}" in state
    state[f"image_encoder.{name}"] = torch.empty(shape, device="meta")
    with pytest.raises(
        ForeignCheckpointError, match=rf"names of a SAM, but shapes that none has \(.*{reason}"
    ):
        recognise(state)


def test_a_vit_without_blocks_is_foreign(tiny_state: dict[str, Tensor]) -> None:
    state = {n: t for n, t in tiny_state.items() if not n.startswith("image_encoder.blocks.")}
    with pytest.raises(ForeignCheckpointError, match=r"\(image_encoder has no blocks\)"):
        recognise(state)


@pytest.mark.parametrize(
    "change",
    [
        {"mask_decoder": MaskDecoderConfig(num_heads=5)},
        {"mask_decoder": MaskDecoderConfig(num_heads=0)},
        {"mask_decoder": MaskDecoderConfig(mlp_dim=-1)},
        {"prompt_encoder": PromptEncoderConfig(mask_in_dim="many")},  # type: ignore[arg-type]
    ],
)
def test_numbers_that_make_no_network_are_foreign(
    tiny_config: SamConfig, tiny_state: dict[str, Tensor], change: dict[str, Any]
) -> None:
    with pytest.raises(ForeignCheckpointError, match="shapes that none has"):
        matching_state(dataclasses.replace(tiny_config, **change), tiny_state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_encoder": VitConfig(depth=10**7)},
            "10000000 layers, and the file has [0-9]+",
        ),
        ({"image_encoder": TinyVitConfig(depths=(2, 2, 10**7, 2))}, "10000000 layers"),
        ({"image_encoder": PyramidConfig(context_depth=10**7)}, "10000000 layers"),
        ({"mask_decoder": MaskDecoderConfig(num_multimask_outputs=10**7)}, "10000000 layers"),
        ({"mask_decoder": MaskDecoderConfig(depth=-5, fusion_depth=10**7)}, "10000000 layers"),
        (
            {"image_encoder": TinyVitConfig(window_sizes=(7, 7, 9999, 7))},
            "a window of 9999 cells, and no tensor is as long as its square",
        ),
    ],
)
def test_claims_that_no_file_of_this_size_can_keep_are_refused_at_once(
    tiny_config: SamConfig, tiny_state: dict[str, Tensor], change: dict[str, Any], message: str
) -> None:
    started = time.perf_counter()
    with pytest.raises(ForeignCheckpointError, match=message):
        matching_state(dataclasses.replace(tiny_config, **change), tiny_state)
    assert time.perf_counter() - started < 1


def test_an_instance_decoder_needs_its_passport(tiny_state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="has no passport that describes it"):
        recognise({**tiny_state, "instance_decoder.head.weight": torch.ones(1)})


@pytest.mark.parametrize(
    ("names", "guess"),
    [
        (
            ("conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight"),
            r"a ResNet. Found conv1 \(1 tensor\), layer1 \(1 tensor\)",
        ),
        (("image_encoder.trunk.blocks.0.norm1.weight",), "SAM 2"),
        (("vision_encoder.layers.0.attn.qkv.weight",), "a SAM of Hugging Face transformers"),
        (
            ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight"),
            r"an MAE checkpoint: `sam-plugins models convert FILE -o sam\.safetensors` makes",
        ),
        (("decoder.samplers.0.conv.weight",), "the instance decoder of micro-sam"),
        (("patch_embed.proj.weight", "neck.0.weight"), "the image encoder of a SAM"),
        (("model.0.cv1.conv.weight",), "a YOLO model"),
        (("downsample.down.res_down_0.conv.0.weight",), "a Cellpose U-Net"),
    ],
)
def test_foreign_weights_are_described(names: tuple[str, ...], guess: str) -> None:
    with pytest.raises(ForeignCheckpointError, match=f"it looks like {guess}"):
        recognise({name: torch.ones(1) for name in names})


def test_unknown_weights_are_listed_by_their_parts() -> None:
    state = {f"part{i}.{j}": torch.ones(1) for i in range(8) for j in range(i + 1)}
    with pytest.raises(
        ForeignCheckpointError,
        match=r"its architecture is not known. Found part7 \(8 tensors\), .*and 2 more parts",
    ):
        recognise(state)
    with pytest.raises(ForeignCheckpointError, match="Found nothing"):
        recognise({})
