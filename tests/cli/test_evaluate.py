"""``sam-plugins evaluate`` from files to figures, with a small model of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.labelled_sets import write_sets

from sam_plugins.cli.app import main
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    InstanceDecoderConfig,
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    PyramidConfig,
    SamConfig,
)
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

SMALL = SamConfig(
    PyramidConfig(
        stage_dims=(8, 8, 16, 16), stage_depths=(1, 1, 1, 1), context_depth=1, skip_dims=(8, 8),
        out_dim=16,
    ),
    PromptEncoderConfig(prompt_map_dims=(8, 8)),
    MaskDecoderConfig(
        num_heads=2, mlp_dim=16, upscale_dims=(8, 8), iou_head_hidden_dim=8, uses_skips=True,
        scores_masks=True,
    ),
    InstanceDecoderConfig(8),
    Preprocessing(min_long_side=64, max_long_side=128, max_enlargement=2.0, pad_to=32),
)  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of random weights."""
    torch.manual_seed(0)
    passport = Passport(name="small", config=SMALL, version="1", licence="Apache-2.0")
    return save_model_file(tmp_path / "small.safetensors", build_sam(SMALL).state_dict(), passport)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two small sets."""
    return write_sets(tmp_path / "data")


def test_tables_and_every_figure(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(["evaluate", str(data), "--model", str(weights), "-o", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "| cells | 2 | 6 |" in printed
    assert "| **mean over 2 sets** | 4 | 12 |" in printed
    assert "Otsu + watershed" in printed
    written = json.loads(report.read_text())
    assert len(written["object_scores"]) == 12
    assert {score["method"] for score in written["picture_scores"]} == {
        written["model"], "Otsu + watershed",
    }  # fmt: skip
    floor = written["automatic"]["Otsu + watershed"]["sets"]["cells"]["msa"]["mean"]
    assert floor > 0.9


def test_one_task_of_one_set_as_json(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--sets", "photos", "--task", "prompts", "--max-objects", "1", "--json"]
    assert main(["evaluate", str(data), "--model", str(weights), *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["prompts"]["sets"]) == ["photos"]
    assert printed["prompts"]["sets"]["photos"]["objects"] == 2
    assert printed["automatic"] == {}


def test_a_folder_of_pictures_and_one_of_labels(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = data / "cells" / "train"
    arguments = [str(split / "images"), "--labels", str(split / "labels"), "--task", "automatic"]
    assert main(["evaluate", *arguments, "--model", str(weights)]) == 0
    assert "| images | Otsu + watershed | 1 | 3 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-objects", "0"], "--max-objects must be 1 or more, got 0"),
        (["--labels", "x", "--sets", "cells"], "belong to folders with manifests"),
    ],
)
def test_wrong_usage(
    data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(data), *arguments])
    assert message in capsys.readouterr().err


def test_an_unknown_set_is_one_line(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(data), "--model", str(weights), "--sets", "cels"]) == 1
    assert "no data set 'cels'" in capsys.readouterr().err
