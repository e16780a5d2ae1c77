"""Passports: what they hold, what they refuse, and what a later version may add."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from sam_plugins.errors import CheckpointError
from sam_plugins.model.networks.config import MOBILE_SAM, SAM_VIT_L, SHIPPED, SamConfig
from sam_plugins.model.weights.passport import FORMAT_VERSION, DataSource, Passport

FULL = Passport(
    name="cells",
    config=SHIPPED,
    version="1.2",
    licence="Apache-2.0",
    description="cells of all kinds",
    training_data=(DataSource("dsb2018/train", "ab" * 32, 10, 300, "CC0"), DataSource("coins")),
    metrics={"dsb2018/val": {"one_point": 0.8, "objects": 3}},
    parent="default-0123456789ab",
)


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(FULL.to_json()), **changes}


def preprocessed(**changes: Any) -> dict[str, Any]:
    return {"preprocessing": {**json.loads(FULL.to_json())["preprocessing"], **changes}}


@pytest.mark.parametrize("config", [SHIPPED, SAM_VIT_L, MOBILE_SAM, SamConfig()])
def test_a_passport_comes_back_from_json(config: SamConfig) -> None:
    passport = dataclasses.replace(FULL, config=config)
    assert Passport.from_json(passport.to_json()) == passport
    assert passport.preprocessing == config.preprocessing


def test_json_is_strict_and_names_architecture_and_preprocessing_apart() -> None:
    document = json.loads(
        Passport(name="a", config=SamConfig()).to_json(), parse_constant=pytest.fail
    )
    assert document["preprocessing"]["max_enlargement"] is None
    assert math.isinf(Passport.from_dict(document).preprocessing.max_enlargement)
    assert set(document["architecture"]) >= {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert "preprocessing" not in document["architecture"]


def test_fields_of_a_later_version_are_kept() -> None:
    passport = Passport.from_dict(changed(colour="blue", training_data=[{"name": "a", "new": 1}]))
    assert passport.extra == {"colour": "blue"}
    assert json.loads(passport.to_json())["colour"] == "blue"
    assert passport.training_data == (DataSource("a"),)


def test_a_new_passport_is_dated_in_utc() -> None:
    assert Passport(name="a", config=SamConfig()).created.endswith("+00:00")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("no json", "cannot be used: it is no JSON"),
        ("[]", "must be a JSON object, got list"),
        ("{}", "format_version must be an integer of 1 or more, got None"),
        ("[" * 100_000, "cannot be used: it is nested too deeply"),
        ('{"a": NaN}', "it is no JSON .NaN is no finite number"),
        ('{"a": 1e999}', "it is no JSON .1e999 is no finite number"),
    ],
)
def test_documents_that_are_no_passport(document: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Passport.from_json(document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, r"has format 2, .*reads up to 1: upgrade"),
        ({"format_version": 0}, "format_version must be"),
        ({"name": ""}, "name must be a text, got ''"),
        ({"version": 3}, "version must be a text, got 3"),
        ({"architecture": None}, "architecture and preprocessing must be objects"),
        ({"preprocessing": []}, "architecture and preprocessing must be objects"),
        (
            {"architecture": {"image_encoder": {"kind": "mamba"}}},
            r"an architecture that this version .* does not know: .*'mamba'.*Upgrade",
        ),
        ({"architecture": {"sound_encoder": {}}}, "does not know: unknown parts"),
        ({"training_data": {}}, "training_data must be a list of objects"),
        ({"training_data": [{"pictures": 2}]}, "an entry of training_data has no name"),
        ({"training_data": [{"name": 2}]}, "in training_data name of DataSource must be a text"),
        (
            {"training_data": [{"name": "a", "pictures": "many"}]},
            "pictures of DataSource must be a whole number, got 'many'",
        ),
        ({"architecture": {"image_encoder": []}}, "image_encoder must be values by name, got"),
        ({"architecture": {"mask_decoder": {"depth": "2"}}}, "depth .* must be a whole number"),
        (preprocessed(pixel_mean="abc"), "must be 3 numbers, got 'abc'.*is damaged or was written"),
        (preprocessed(pixel_mean=[1.0, 2.0]), r"must be 3 numbers, got \[1.0, 2.0\]"),
        (preprocessed(pixel_mean=[math.nan] * 3), "must be 3 numbers, got .nan, nan, nan"),
        (preprocessed(max_enlargement=math.nan), "max_enlargement .* must be a number, got nan"),
        (preprocessed(pad_to=1.5), "must be 'square' or a whole number, got 1.5"),
        (preprocessed(min_long_side="768"), "min_long_side .* whole number, got '768'"),
        (preprocessed(pad_to=48), "cannot be used: pictures must be padded to multiples of 32"),
        ({"metrics": 1}, "metrics must be an object"),
        ({"metrics": {"a": {"iou": "good"}}}, "metrics of 'a' must be numbers by name"),
    ],
)
def test_passports_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Passport.from_dict(changed(**changes))


@pytest.mark.parametrize("config", [SamConfig(), MOBILE_SAM], ids=["vit", "tiny_vit"])
def test_a_passport_of_another_size_than_its_encoder_is_refused(config: SamConfig) -> None:
    sizes = dataclasses.replace(config.preprocessing, min_long_side=512, max_long_side=512)
    passport = dataclasses.replace(FULL, config=dataclasses.replace(config, preprocessing=sizes))
    message = "must be padded to 1024 x 1024 pixels, .*, got max_long_side 512"
    with pytest.raises(CheckpointError, match=message):
        Passport.from_json(passport.to_json())
