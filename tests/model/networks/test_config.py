"""Configs survive a weight file, and say what is wrong with them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from sam_plugins.model.networks.config import (
    MOBILE_SAM,
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    SHIPPED,
    Preprocessing,
    PyramidConfig,
    SamConfig,
    TinyVitConfig,
    UnknownConfigError,
    VitConfig,
    require_fitting_input,
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
        ({"image_encoder": {"kind": ["vit"]}}, r"kind must be one of .*, got \['vit'\]"),
    ],
)
def test_unknown_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownConfigError, match=message):
        SamConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_encoder": [1]}, r"image_encoder must be values by name, got \[1\]"),
        ({"mask_decoder": [1]}, r"MaskDecoderConfig must be values by name, got \[1\]"),
        ({"image_encoder": {"depth": 12.0}}, "depth of VitConfig must be a whole number, got 12.0"),
        (
            {"image_encoder": {"global_attention_blocks": [2, "5"]}},
            r"global_attention_blocks of VitConfig must be whole numbers, got \[2, '5'\]",
        ),
        ({"image_encoder": {"mlp_ratio": True}}, "mlp_ratio of VitConfig must be a number, got Tr"),
        (
            {"mask_decoder": {"upscale_dims": [8]}},
            r"upscale_dims of MaskDecoderConfig must be 2 whole numbers, got \[8\]",
        ),
        (
            {"mask_decoder": {"uses_skips": "no"}},
            "uses_skips of MaskDecoderConfig must be true or false, got 'no'",
        ),
        (
            {"prompt_encoder": {"prompt_map_dims": 8}},
            "prompt_map_dims of PromptEncoderConfig must be 2 whole numbers or None, got 8",
        ),
    ],
)
def test_values_of_another_kind_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_long_side": 0}, "min_long_side must lie between 1 and max_long_side, got 0 and"),
        ({"min_long_side": 600, "max_long_side": 512}, "got 600 and 512"),
        ({"max_enlargement": 0.5}, "max_enlargement must be 1 or more, got 0.5"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, r"pixel_std must be positive, got \(1.0, 0.0, 1.0\)"),
        ({"pad_to": 0}, "pad_to must be 'square' or a positive multiple of up to 65536, got 0"),
        ({"pad_to": 1.5}, "pad_to of Preprocessing must be 'square' or a whole number, got 1.5"),
        ({"pad_to": "circle"}, "must be 'square' or a whole number, got 'circle'"),
        ({"pad_to": True}, "must be 'square' or a whole number, got True"),
        ({"pixel_mean": "abc"}, "pixel_mean of Preprocessing must be 3 numbers, got 'abc'"),
        ({"pixel_mean": (1.0, 2.0)}, r"pixel_mean .* must be 3 numbers, got \(1.0, 2.0\)"),
        ({"pixel_std": (1.0, 2.0, math.nan)}, "pixel_std .* must be 3 numbers, got"),
        ({"pixel_mean": (1, 2, 10**400)}, "pixel_mean .* must be 3 numbers, got"),
        ({"pixel_mean": (0.0, math.inf, 0.0)}, "must leave finite values of pictures in float32"),
        ({"pixel_mean": (0.0, 1e39, 0.0)}, "must leave finite values of pictures in float32"),
        ({"pixel_std": (1.0, 1.0, 1e39)}, "must leave finite values of pictures in float32"),
        ({"pixel_std": (1.0, 1.0, 1e-40)}, "must leave finite values of pictures in float32"),
        ({"max_enlargement": math.nan}, "max_enlargement .* must be a number, got nan"),
        ({"min_long_side": 64.5}, "min_long_side .* must be a whole number, got 64.5"),
        ({"min_long_side": "64"}, "min_long_side .* must be a whole number, got '64'"),
        ({"max_long_side": 10**12}, "max_long_side must be 65536 or less, got 1000000000000"),
    ],
)
def test_impossible_preprocessing_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**values)


def test_numbers_of_numpy_are_numbers() -> None:
    preprocessing = Preprocessing(
        pixel_mean=tuple(np.zeros(3, np.float32)),  # type: ignore[arg-type]
        min_long_side=np.int64(64),  # type: ignore[arg-type]
    )
    assert preprocessing.min_long_side == 64


@pytest.mark.parametrize("config", PUBLISHED, ids=NAMES)
def test_published_models_get_the_input_that_they_take(config: SamConfig) -> None:
    require_fitting_input(config)


@pytest.mark.parametrize(
    ("encoder", "sizes", "message"),
    [
        (VitConfig(image_size=64), {}, r"padded to 64 x 64 .*\(vit\), got max_long_side 1024"),
        (TinyVitConfig(), {"pad_to": 32}, r"1024 x 1024 .*\(tiny_vit\), got .* and pad_to 32"),
        (VitConfig(image_size=512), {"pad_to": 512}, "got max_long_side 1024 and pad_to 512"),
        (PyramidConfig(), {"pad_to": 48}, "multiples of 32 pixels .* 'pyramid', got .* pad_to 48"),
        (PyramidConfig(), {"max_long_side": 1100}, "got max_long_side 1100 and pad_to 'square'"),
        (PyramidConfig(image_size=0), {}, "image_size must be 1 or more, got 0"),
    ],
)
def test_input_that_an_encoder_cannot_take_is_refused(
    encoder: Any, sizes: dict[str, Any], message: str
) -> None:
    config = SamConfig(encoder, preprocessing=Preprocessing(**sizes))
    with pytest.raises(ValueError, match=message):
        require_fitting_input(config)


@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [
        (VitConfig(), {"min_long_side": 64}),
        (VitConfig(), {"min_long_side": 64, "max_long_side": 512, "pad_to": 1024}),
        (PyramidConfig(), {"min_long_side": 64, "max_long_side": 1000, "pad_to": 64}),
    ],
)
def test_input_of_other_sizes_may_fit(encoder: Any, sizes: dict[str, Any]) -> None:
    require_fitting_input(SamConfig(encoder, preprocessing=Preprocessing(**sizes)))
