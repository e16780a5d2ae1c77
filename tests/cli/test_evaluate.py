"""``sam-plugins evaluate`` from files to figures, with a small model of random weights."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tests.labelled_sets import write_sets

from sam_plugins.cli.app import main
from sam_plugins.model.io.atomic import output_error
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


def test_one_unreadable_picture_does_not_stop_the_others(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "cells" / "val" / "images" / "a.png"
    broken.write_bytes(broken.read_bytes()[:60])
    report = tmp_path / "report.json"
    arguments = [str(data), "--model", str(weights), "--max-objects", "1", "-o", str(report)]
    assert main(["evaluate", *arguments]) == 1
    printed, err = capsys.readouterr()
    assert "| cells | 1 | 1 |" in printed
    assert "| **mean over 2 sets** | 3 | 3 |" in printed
    assert f"error: cannot read {broken}: " in err
    assert f"3 of 4 measured, 1 failed: {broken}" in err
    written = json.loads(report.read_text())
    assert [failed["image"] for failed in written["data"]["failed"]] == [str(broken)]
    assert set(written["seconds"]) == {"prompts", "automatic"}


def test_a_picture_that_the_model_cannot_use_is_named(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, array in (
        ("pictures", np.full((20, 30), np.nan, np.float32)),
        ("labels", np.ones((20, 30), np.uint16)),
    ):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", array)
    arguments = [str(tmp_path / "pictures"), "--labels", str(tmp_path / "labels")]
    assert main(["evaluate", *arguments, "--model", str(weights)]) == 1
    printed, err = capsys.readouterr()
    assert printed == ""
    assert re.search(r"error: .*a\.tif: .*finite", err)


def test_a_model_that_cannot_do_everything_is_refused_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, instance_decoder=None)
    passport = Passport(name="mute", config=config, version="1", licence="Apache-2.0")
    state = build_sam(config).state_dict()
    weights = save_model_file(tmp_path / "mute.safetensors", state, passport)

    def measured(*_: object, **__: object) -> None:
        pytest.fail("something was measured before the model was refused")

    command = ["evaluate", str(data), "--model", str(weights), "--max-objects", "1"]
    with monkeypatch.context() as patched:
        patched.setattr("sam_plugins.model.evaluation.measure.measure", measured)
        for task in ("all", "automatic"):
            assert main([*command, "--task", task]) == 1
            message = (
                "needs a model with an instance decoder, which mute-[0-9a-f]+ has not; measure"
            )
            assert re.search(message, capsys.readouterr().err)
    assert main([*command, "--task", "prompts"]) == 0
    assert "One prompt per object" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/dir/r.json", "the folder does not exist; create it first"),
        ("data", "a folder of that name exists; choose another name"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_first(
    data: Path,
    tmp_path: Path,
    output: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--model", "no-such-model", "-o", str(tmp_path / output)]
    assert main(["evaluate", str(data), *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "no-such-model" not in err


@pytest.mark.parametrize("content", ["my notes", "[]", '{"model": "mine"}'])
def test_a_file_that_is_no_report_is_kept(
    weights: Path, data: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "r.json"
    report.write_text(content)
    options = ["--task", "prompts", "--max-objects", "1", "-o", str(report)]
    command = ["evaluate", str(data), "--sets", "cells", "--model", str(weights), *options]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert re.search(r"error: .*r\.json exists and is no report of ours; pass --overwrite", err)
    assert report.read_text() == content
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0  # a report of ours


def test_a_disk_that_fills_up_does_not_cost_the_tables(
    weights: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: str, content: bytes) -> None:
        raise output_error(Path(path), OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("sam_plugins.model.evaluation.report.write_bytes", full)
    command = ["evaluate", str(data), "--model", str(weights), "--task", "prompts"]
    assert main([*command, "--max-objects", "1", "-o", str(tmp_path / "r.json")]) == 1
    printed, err = capsys.readouterr()
    assert "| **mean over 2 sets** | 4 | 4 |" in printed
    assert "the disk is full; free some space" in err


def test_the_report_says_which_data(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--model", str(weights), "--task", "prompts", "--max-objects", "1", "--json"]
    assert main(["evaluate", str(data), "--sets", "cells", "--split", "train", *options]) == 0
    described = json.loads(capsys.readouterr().out)["data"]
    assert described == {"folder": "data", "sets": ["cells"], "split": "train"}
    monkeypatch.chdir(data / "cells" / "train" / "images")
    assert main(["evaluate", ".", "--labels", "../labels", *options]) == 0
    described = json.loads(capsys.readouterr().out)["data"]
    assert described == {"folder": "images", "labels": "labels"}


def test_an_unknown_set_is_one_line(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(data), "--model", str(weights), "--sets", "cels"]) == 1
    assert "no data set 'cels'" in capsys.readouterr().err


@pytest.mark.parametrize("from_box", [False, True])
def test_clicks(
    weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], from_box: bool
) -> None:
    report = tmp_path / "report.json"
    command = ["evaluate", str(data), "--sets", "photos", "--model", str(weights)]
    more = ["--task", "clicks", "--max-objects", "1", "-o", str(report)]
    assert main([*command, *more, *(["--from-box"] if from_box else [])]) == 0
    printed = capsys.readouterr().out
    assert "| NoC@85 | NoC@90 |" in printed
    assert ("| box |" in printed) is from_box
    written = json.loads(report.read_text())
    curve = np.mean([score["ious"] for score in written["click_scores"]], axis=0)
    falling = ", ".join(str(number) for number in np.flatnonzero(np.diff(curve) < 0) + 2)
    told = f"Clicks after which the mean IoU is lower: {falling}."
    assert f"\n{told if falling else 'No click lowers the mean IoU.'}\n" in printed
    assert written["prompts"] is None
    assert written["automatic"] == {}
    assert [len(score["ious"]) for score in written["click_scores"]] == [20, 20]
    mean = written["clicks"]["over_sets"]["iou_20"]["mean"]
    assert mean == pytest.approx(np.mean([s["ious"][-1] for s in written["click_scores"]]))


def test_a_box_first_belongs_to_clicks(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(data), "--from-box"])
    assert "--from-box belongs to --task clicks" in capsys.readouterr().err
