"""``sam-plugins engine export`` replaces nothing that is there, unless told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_plugins.cli.app import main
from sam_plugins.model.engine.project.project import Project, ProjectSettings

FILES = {"coco", "label-studio"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one picture in which nothing is."""
    picture = tmp_path / "cell.png"
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20).astype(np.uint8)).save(picture)
    with Project.create(tmp_path / "project", ProjectSettings("cells")) as made:
        [record] = made.labels.add_images([picture])
        made.labels.set_complete(record.image_id, True)
    return tmp_path / "project"


def export(project: Path, output: Path, form: str, *more: str) -> int:
    return main(["engine", "export", str(project), "-o", str(output), "--format", form, *more])


@pytest.mark.parametrize("form", sorted(FILES))
def test_a_file_of_somebody_is_not_replaced(
    project: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text("mine")
    assert export(project, notes, form) == 1
    assert "notes.json exists already; pass --overwrite" in capsys.readouterr().err
    assert notes.read_text() == "mine"
    assert export(project, notes, form, "--overwrite") == 0
    json.loads(notes.read_text())


def test_a_coco_file_says_whose_labels_it_holds(project: Path, tmp_path: Path) -> None:
    assert export(project, tmp_path / "out.json", "coco") == 0
    about = json.loads((tmp_path / "out.json").read_text())["info"]
    assert about["description"] == "labels of cells"


@pytest.mark.parametrize(
    ("form", "within"), [("labels", "labels"), ("labels", "images"), ("sa1b", ".")]
)
def test_labels_that_people_made_are_not_replaced(
    project: Path, tmp_path: Path, form: str, within: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "set" / within / "cell.tif"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    assert export(project, tmp_path / "set", form) == 1
    assert "holds files already; pass --overwrite" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert export(project, tmp_path / "set", form, "--overwrite") == 0


@pytest.mark.parametrize("form", ["labels", "sa1b"])
def test_a_folder_that_is_there_and_holds_nothing_will_do(
    project: Path, tmp_path: Path, form: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".DS_Store").touch()
    assert export(project, tmp_path / "set", form) == 0


def test_the_refusal_is_json_too(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.json").write_text("mine")
    capsys.readouterr()
    assert export(project, tmp_path / "notes.json", "coco", "--json") == 1
    said: Any = json.loads(capsys.readouterr().out)
    assert "exists already" in said["error"]
