"""Configs survive a weight file, and say what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sam_plugins.model.networks.config import (
    MOBILE_SAM,
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    SHIPPED,
    Preprocessing,
    SamConfig,
)

PUBLISHED = [SAM_VIT_B, SAM_VIT_L, SAM_VIT_H, MOBILE_SAM, SHIPPED]
NAMES = ["vit_b", "vit_l", "vit_h", "mobile_sam", "shipped"]


@pytest.mark.parametrize("config", PUBLISHED, ids=NAMES)
def test_there_and_back_through_json(config: SamConfig) -> None:
    assert SamConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert SamConfig.from_dict(config.to_dict()) == config


def test_small_configs_too(small_configs: dict[str, SamConfig]) -> None:
    for config in small_configs.values():
        again = SamConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config
        assert hash(again) == hash(config)  # Lists became tuples again, at every depth.


def test_what_is_not_said_is_sam_vit_b() -> None:
    assert SamConfig.from_dict({}) == SAM_VIT_B
    values = {"image_encoder": {"kind": "tiny_vit"}, "instance_decoder": None}
    assert SamConfig.from_dict(values) == MOBILE_SAM
    large = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
    blocks = {"global_attention_blocks": [5, 11, 17, 23]}
    assert SamConfig.from_dict({"image_encoder": {**large, **blocks}}) == SAM_VIT_L


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decoder": {}, "colour": 1}, r"unknown parts of a model config: \['colour', 'decoder'\]"),
        (
            {"image_encoder": {"kind": "resnet"}},
            r"kind must be one of \['pyramid', 'tiny_vit', 'vit'\], got 'resnet'",
        ),
        ({"image_encoder": {"width": 3}}, r"unknown VitConfig values: \['width'\]"),
        (
            {"image_encoder": {"kind": "pyramid", "num_heads": 3}},
            r"unknown PyramidConfig values: \['num_heads'\]",
        ),
        ({"mask_decoder": {"heads": 3}}, r"unknown MaskDecoderConfig values: \['heads'\]"),
        ({"preprocessing": {"mean": 3}}, r"unknown Preprocessing values: \['mean'\]"),
    ],
)
def test_unknown_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_long_side": 0}, "min_long_side must lie between 1 and max_long_side, got 0 and"),
        ({"min_long_side": 600, "max_long_side": 512}, "got 600 and 512"),
        ({"max_enlargement": 0.5}, "max_enlargement must be 1 or more, got 0.5"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, r"pixel_std must be positive, got \(1.0, 0.0, 1.0\)"),
        ({"pad_to": 0}, "pad_to must be 'square' or a positive multiple, got 0"),
    ],
)
def test_impossible_preprocessing_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**values)
