"""The config of a run: there and back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_plugins.errors import DatasetError, OutputError
from sam_plugins.model.engine.fine_tuning import FineTuningOptions
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.training.batches import CropSize


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    training = FineTuningOptions(
        "lora", steps=50, crop_sizes=(CropSize(256, 4, 5, 0.6), CropSize(512, 1, 6, 0.4)), seed=3
    )
    config = RunConfig(
        "cells", "data", sets=("a", "b"), sparse=True, note='naïve: "yes"', training=training
    )
    config.write(tmp_path / "config.yaml")
    assert RunConfig.read(tmp_path / "config.yaml") == config


def test_what_people_write() -> None:
    config = RunConfig.from_yaml(
        "name: cells\ndata: pictures\nlabels: labels\n"
        "training:\n  learning_rate: 3e-4\n  steps: 20\n  crop_sizes: [[256, 2, 4, 1]]\n"
    )
    assert config.training.learning_rate == 3e-4
    assert config.training.crop_sizes == (CropSize(256, 2, 4, 1.0),)
    assert config.training.round_count == 6


BASE = "name: a\ndata: b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "the config is no YAML that we can read"),
        ("- 1", "must hold keys with values, such as `name: my-cells`, got list"),
        ("data: b", "missing: name"),
        (BASE + "label: x", r"unknown key label; do you mean labels\?"),
        (BASE + "zzz: 1", "unknown key zzz; there is name, data"),
        (BASE + "held_out: 2", "held_out must lie between 0 and 1, got 2.0"),
        (BASE + "devices: 0", "devices must be 1 or more, got 0"),
        (BASE + "devices: yes", "devices must be of type int, got True"),
        (BASE + "held_out: much", "held_out must be of type float, got 'much'"),
        (BASE + "sets: a", "sets must be a list, got 'a'"),
        (BASE + "sets: [1]", r"sets\[0\] must be of type str, got 1"),
        (BASE + "labels: x\nsets: [a]", "sets belongs to folders with manifests"),
        (BASE + "ignore: x", "ignore belongs to a folder of pictures with labels"),
        (BASE + "training: 3", "training must hold keys with values, got 3"),
        (BASE + "training: {method: half}", "training.method must be one of full, decoder, lora"),
        (BASE + "training: {stepz: 3}", "unknown key training.stepz; do you mean training.steps"),
        (BASE + "training: {steps: 3, rounds: 4}", "rounds must lie between 1 and steps, got 4 r"),
        (
            BASE + "training: {crop_sizes: [[256, 2]]}",
            r"crop_sizes\[0\] must be \[pixels, images, objects, probability\], got \[256, 2\]",
        ),
        (
            BASE + "training: {crop_sizes: [256, 2, 4, 1]}",
            r"crop_sizes\[0\] must be \[pixels, images, objects, probability\], got 256",
        ),
        (
            BASE + "training: {crop_sizes: [[250, 2, 3, 1]]}",
            "crop_sizes must hold sizes with positive values, pixels in multiples of 32",
        ),
        (BASE + "training: {views: -1}", "views must be 0 or more, got -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.from_yaml(text)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the config .*nothing\.yaml"):
        RunConfig.read(tmp_path / "nothing.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"picture\.yaml is no text: name a YAML file"):
        RunConfig.read(tmp_path / "picture.yaml")
    with pytest.raises(OutputError, match=r"\(the config of the run\)"):
        RunConfig("a", "b").write(tmp_path / "no" / "config.yaml")
