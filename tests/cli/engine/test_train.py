"""``engine train`` that is killed or stopped goes on, and leaves nothing elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.cli.app import main
from sam_plugins.model.engine import fine_tuning
from sam_plugins.model.engine.label_store import LabelledObject, ReviewState, Split
from sam_plugins.model.engine.project.project import Project, ProjectSettings
from sam_plugins.model.training.batches import BatchOptions, CropSize
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

QUICK = BatchOptions((CropSize(64, 2, 3, 1.0),), 0.0, {}, 1.0)
OPTIONS = ["--steps", "6", "--rounds", "3", "--learning-rate", "0.01"]
DIES_AT_THE_THIRD_MEASURING = """
import os, signal
from sam_plugins.cli.app import main
from sam_plugins.model.engine import fine_tuning
from sam_plugins.model.training.batches import BatchOptions, CropSize
measure, seen = fine_tuning.measure_round, []
def killed(*arguments, **more):
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(*arguments, **more)
fine_tuning.measure_round = killed
fine_tuning._batch_options = lambda config: BatchOptions((CropSize(64, 2, 3, 1.0),), 0.0, {}, 1.0)
main(["engine", "train", PROJECT, *OPTIONS])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with three labelled pictures and a tiny model, which trains quickly."""
    monkeypatch.setattr(fine_tuning, "_batch_options", lambda config: QUICK)
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    model = save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)
    with Project.create(tmp_path / "project", ProjectSettings("cells", str(model))) as made:
        for seed, split in enumerate((Split.TRAIN, Split.TRAIN, Split.HELD_OUT)):
            path = tmp_path / f"{seed}.png"
            Image.fromarray(picture_of(discs(seed))).save(path)
            (record,) = made.labels.add_images([path])
            made.labels.set_split(record.group, split)
            label(made, path, 1)
    return tmp_path / "project"


def label(project: Project, path: Path, number: int) -> None:
    """Label a disc of a picture."""
    record = project.find_image(str(path))
    mask = discs(int(path.stem)) == number
    project.labels.put_objects(
        [LabelledObject.of_mask(record.image_id, mask, review=ReviewState.ACCEPTED)]
    )


def trained(project: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[Any, str]:
    capsys.readouterr()
    assert main(["engine", "train", str(project), *(more or OPTIONS), "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def killed(project: Path, temporary: Path) -> None:
    """Kill a training after its first round."""
    temporary.mkdir()
    values = f"PROJECT, OPTIONS = {str(project)!r}, {OPTIONS!r}"
    ended = subprocess.run(
        [sys.executable, "-c", values + DIES_AT_THE_THIRD_MEASURING],
        capture_output=True,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not list(temporary.glob("sam-plugins-*"))
    assert (project / "training" / "state.safetensors").is_file()


def test_too_few_held_out_pictures_are_told_before_the_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_measuring(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "measure_round", no_measuring)
    assert main(["engine", "train", str(project), *OPTIONS]) == 130
    said = capsys.readouterr().err
    assert "1 labelled picture is held out to measure on, fewer than the 5 that tell a" in said
    assert "import more (of 20 in all, 5 are held out" in said


@pytest.mark.parametrize("more", [(), ("--version", "1"), ("--force",)])
def test_without_a_training_there_is_nothing_to_promote(
    project: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert main(["engine", "promote", str(project), *more]) == 1
    said = capsys.readouterr().err
    assert "there is no version of cells to promote: nothing was trained yet" in said
    assert f"`sam-plugins engine train {project}`" in said
    with Project.open(project) as opened:
        opened.state.put_round("tiny", None, pictures=2, objects=2, seconds=1.0, details={})
    assert main(["engine", "promote", str(project), *more]) == 1
    said = capsys.readouterr().err
    assert "no training has come to anything better than the model in use; label more" in said


def test_a_killed_training_goes_on(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(project, tmp_path / "temporary")
    resumed, said = trained(project, capsys)
    assert (
        "going on with the training that was ended early, the last measured step of which" in said
    )
    assert not (project / "training").exists()
    whole, said = trained(project, capsys)
    assert "going on" not in said
    assert resumed["rounds"] == whole["rounds"]
    assert [one["step"] for one in whole["rounds"] if one["share"] == 1] == [0, 2, 4, 6]


@pytest.mark.parametrize("change", ["options", "labels", "parent", "state"])
def test_another_training_begins_anew(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    killed(project, tmp_path / "temporary")
    options = OPTIONS
    if change == "options":
        options = [*OPTIONS, "--seed", "1"]
    elif change == "labels":
        with Project.open(project) as opened:
            label(opened, tmp_path / "0.png", 2)
    elif change == "parent":
        model = tmp_path / "tiny.safetensors"
        passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
        other = make_model(TINY_PYRAMID, "tiny", seed=1).network.state_dict()
        save_model_file(model, other, passport)
    else:
        (project / "training" / "rounds.json").write_text("[")
    done, said = trained(project, capsys, *options)
    assert "going on" not in said
    assert [one["step"] for one in done["rounds"] if one["share"] == 1] == [0, 2, 4, 6]
    assert not (project / "training").exists()


def test_a_stopped_training_says_how_it_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, seen = fine_tuning.measure_round, []

    def stopped(*arguments: Any, **more: Any) -> Any:
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return measure(*arguments, **more)

    monkeypatch.setattr(fine_tuning, "measure_round", stopped)
    assert main(["engine", "train", str(project), *OPTIONS]) == 130
    assert "the same command goes on with this training" in capsys.readouterr().err
    _, said = trained(project, capsys)
    assert "the last measured step of which is 0" in said


def test_what_fails_before_it_measures_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "measure_round", stopped)
    assert main(["engine", "train", str(project), *OPTIONS]) == 130
    assert "goes on" not in capsys.readouterr().err
    assert not (project / "training").exists()
