"""``sam-plugins train`` and the versions that come of it, with a tiny model on small crops."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model
from tests.quick_training import make_training_quick

from sam_plugins.cli.app import main
from sam_plugins.errors import FolderBusyError
from sam_plugins.model.engine import fine_tuning
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.runs import begin_run
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that train on six pictures, quickly."""
    make_training_quick(monkeypatch)
    for seed in range(6):
        labels = discs(seed)
        for kind, pixels in (("images", picture_of(labels)), ("labels", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{seed}.png")
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    parent = save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)
    return [
        "train", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"),
        "--from", str(parent), "--name", "discs", "--held-out", "0.5",
    ]  # fmt: skip


def test_from_labels_to_a_model_in_use(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--steps", "60", "--rounds", "2", "--learning-rate", "0.003", "--note", "first"]
    assert main([*command, *quick]) == 0
    printed = capsys.readouterr().out
    assert "discs@1: mean of box IoU, mSA, and IoU after one, three and five clicks" in printed
    assert re.search(r"on \d held-out pictures \(fewer than the 5 that tell", printed)
    assert " best" in printed

    assert main(["models", "versions"]) == 0
    listed = capsys.readouterr().out
    assert "discs@1" in listed
    assert "first" in listed
    assert main(["models", "promote", "discs", "--force"]) == 0
    assert capsys.readouterr().out == "discs@1 is in use\n"
    assert main(["models", "versions", "discs", "--json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)
    assert version["is_in_use"] is True

    # By its name wherever a model is asked for.
    model = load_model("discs")
    assert model.model_id == load_model("discs@1").model_id == version["model_id"]
    assert model.path == Path(version["path"])
    picture = tmp_path / "images" / "0.png"
    assert main(["segment", str(picture), "-o", str(tmp_path / "out"), "--model", "discs@1"]) == 0
    assert (tmp_path / "out" / "0_labels.tif").is_file()


def test_what_did_not_help_is_not_stored(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ["--steps", "2", "--rounds", "1", "--learning-rate", "1e-12"]
    assert main([*command, *nothing]) == 0
    assert "Nothing was better than the model it began with" in capsys.readouterr().out
    assert main([*command, *nothing, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["version"] is None
    assert values["best_step"] == 0
    measured = [(one["step"], one["share"]) for one in values["rounds"]]
    assert measured == [(0, 1), (2, 1), (2, 0.6), (2, 0.3)]
    assert main(["models", "versions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_was_better_is_stored_when_somebody_stops(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = iter((0.1, 0.2))

    def measured(model: Any, step: int, **_: Any) -> Round:
        value = next(values, None)
        if value is None:
            raise KeyboardInterrupt
        return Round(step, {"a": value}, {"box": value})

    monkeypatch.setattr(fine_tuning, "measure_round", measured)
    assert main([*command, "--steps", "4", "--rounds", "2"]) == 130
    assert "Stopped early; the best weights so far are kept." in capsys.readouterr().out
    assert load_model("discs@1").passport is not None


def test_a_short_run_is_measured_after_every_step(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*command, "--steps", "2", "--json", "-o", str(tmp_path / "run")]) == 0
    rounds = json.loads(capsys.readouterr().out)["rounds"]
    assert [one["step"] for one in rounds if one["share"] == 1] == [0, 1, 2]
    again = ["train", str(tmp_path / "run" / "config.yaml"), "--steps", "1", "--json"]
    assert main(again) == 0
    rounds = json.loads(capsys.readouterr().out)["rounds"]
    assert [one["step"] for one in rounds if one["share"] == 1] == [0, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--held-out", "1.5"], "--held-out must lie between 0 and 1, got 1.5"),
        (
            ["--rounds", "9", "--steps", "3"],
            "error: --rounds must lie between 1 and --steps, got 9 ro",
        ),
        (["--steps", "0"], "error: --steps must be 1 or more, got 0"),
        (["--learning-rate", "0"], "error: --learning-rate must be positive and finite, got 0"),
        (["--seed", "-1"], "error: --seed must lie between 0 and"),
        (["--sets", "a"], "--sets belongs to folders with manifests"),
    ],
)
def test_wrong_usage(
    command: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, *more])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("action", ["promote", "rollback", "delete"])
@pytest.mark.parametrize("number", ["-1", "0", "x", ""])
def test_versions_are_counted_from_one(
    action: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", action, f"cells@{number}"])
    assert f"versions are counted from 1, got '{number}'; `sam-plugins models ver" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "promote", "nothing"], "has no model 'nothing'"),
        (["models", "rollback", "nothing"], "has no model 'nothing'"),
        (["models", "versions", "nothing"], "has no model 'nothing'"),
        (["models", "show", "nothing@3"], "has no model 'nothing'"),
    ],
)
def test_unknown_models_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_name_that_cannot_be_is_refused_before_any_work(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--name", "default"]) == 1
    assert "is the name of a published model" in capsys.readouterr().err


def test_one_picture_is_too_few(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 6):
        (tmp_path / "images" / f"{number}.png").unlink()
        (tmp_path / "labels" / f"{number}.png").unlink()
    assert main(command) == 1
    assert "two labelled pictures are the least" in capsys.readouterr().err


def test_pictures_without_labels_say_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "labels").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)
    run = tmp_path / "runs" / "first"
    assert main([*command, "-o", str(run)]) == 1
    assert "no training picture has a labelled object" in capsys.readouterr().err
    assert not run.exists()  # it would be in the way of the next try
    run.mkdir()
    assert main([*command, "-o", str(run)]) == 1
    assert list(run.iterdir()) == []  # somebody made it


def test_a_run_that_is_interrupted_before_it_measured_says_how_to_go_on(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    monkeypatch.setattr(fine_tuning, "measure_round", interrupted)
    assert main([*command, "--steps", "2", "--rounds", "1", "-o", str(run)]) == 130
    assert f"go on with `sam-plugins train {run} --resume`" in capsys.readouterr().err
    assert (run / "config.yaml").is_file()


def test_a_run_that_another_process_works_on_stays(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise FolderBusyError("another process is at work on the run")

    run = tmp_path / "run"
    monkeypatch.setattr("sam_plugins.model.engine.runs.train_run", busy)
    assert main([*command, "--steps", "2", "--rounds", "1", "-o", str(run)]) == 1
    assert (run / "config.yaml").is_file()


def test_going_on_that_fails_leaves_the_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "labels").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)
    asked = RunConfig(
        name="discs",
        data=str(tmp_path / "images"),
        parent=command[5],
        labels=str(tmp_path / "labels"),
    )
    run = begin_run(asked, tmp_path / "run")
    assert main(["train", str(run.path), "--resume"]) == 1
    assert "no training picture has a labelled object" in capsys.readouterr().err
    assert RunFolder.open(run.path).config == run.config
    assert run.config == replace(asked, training=asked.training.for_device("cpu"))


def test_runs_are_kept_repeated_and_resumed_only_where_they_can(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quick = ["--steps", "2", "--rounds", "1", "--learning-rate", "1e-12", "-o", str(run)]
    assert main([*command, *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == str(run)
    assert {"config.yaml", "data.json", "log.csv", "rounds.json"} <= {
        path.name for path in run.iterdir()
    }
    assert main(["train", str(run), "--resume"]) == 1
    assert "is complete, its best weights are" in capsys.readouterr().err
    again = tmp_path / "again"
    assert main(["train", str(run), "-o", str(again)]) == 0
    assert f"Log, curves and sample pictures:  {again}" in capsys.readouterr().out
    columns = [
        [line.split(",")[1] for line in (folder / "log.csv").read_text().splitlines()]
        for folder in (run, again)
    ]
    assert columns[0] == columns[1]
    config = str(run / "config.yaml")
    changed = tmp_path / "changed"
    assert main(["train", config, "--steps", "1", "--name", "other", "-o", str(changed)]) == 0
    assert len((changed / "log.csv").read_text().splitlines()) == 2
    assert "name: other" in (changed / "config.yaml").read_text()


def test_wrong_usage_of_runs(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["train", str(tmp_path)], "the following arguments are required: --name"),
        (
            ["train", str(tmp_path), "--resume", "--steps", "3", "--from", "a"],
            "--from, --steps cannot be given with the folder of a run",
        ),
        (["train", str(tmp_path), "--resume", "-o", "x"], "--output cannot be given with --resume"),
        ([*command, "--devices", "0"], "--devices must be 1 or more, got 0"),
        ([*command[:2], "--name", "a", "--ignore", "x"], "--ignore belongs to a folder of"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err
    assert main(["train", str(tmp_path), "--resume"]) == 1
    assert "is no folder of a training run" in capsys.readouterr().err
    (tmp_path / "a.yaml").write_text("name: a")
    assert main(["train", str(tmp_path / "a.yaml")]) == 1
    assert "a.yaml: missing: data" in capsys.readouterr().err
