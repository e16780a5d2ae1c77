"""``engine next`` where some pictures are gone or damaged: the others are chosen from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.cli.app import main
from sam_plugins.model.engine.label_store import Split
from sam_plugins.model.engine.project.project import Project, ProjectSettings
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

PICTURES = 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with pictures to learn from, and a tiny model."""
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    model = save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(PICTURES)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (30, 40), np.uint8)).save(path)
    with Project.create(tmp_path / "project", ProjectSettings("cells", str(model))) as made:
        for record in made.labels.add_images(paths):
            made.labels.set_split(record.group, Split.TRAIN)
    return tmp_path / "project"


def asked(
    project: Path, capsys: pytest.CaptureFixture[str], count: int, code: int
) -> tuple[Any, str]:
    capsys.readouterr()
    assert main(["engine", "next", str(project), "--count", str(count), "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_the_others_are_chosen_from(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"another")
    said, complaints = asked(project, capsys, PICTURES, 1)
    assert [Path(one["path"]).name for one in said["next"]] == ["2.png"]
    errors = {Path(one["image"]).name: one["error"] for one in said["failed"]}
    assert sorted(errors) == ["0.png", "1.png"]
    assert "no such file; if it was moved, import it from where it is now" in errors["0.png"]
    assert "has changed since it was added" in errors["1.png"]
    assert complaints.count("error: ") == 2


def test_a_blank_picture_comes_last(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(black)
    with Project.open(project) as opened:
        (record,) = opened.labels.add_images([black])
        opened.labels.set_split(record.group, Split.TRAIN)
    for _ in range(2):  # measured, and then remembered
        said, _ = asked(project, capsys, PICTURES + 1, 0)
        names = [Path(one["path"]).name for one in said["next"]]
        assert (len(names), names[-1]) == (PICTURES + 1, "black.png")


def test_none_is_left(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(PICTURES):
        (tmp_path / f"{number}.png").unlink()
    said, _ = asked(project, capsys, 1, 1)
    assert "no picture that is left can be read; import them from where they are" in said["error"]


def test_a_moved_picture_is_found_again(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "0.png").rename(tmp_path / "moved" / "0.png")
    assert main(["engine", "import", str(project), str(tmp_path / "moved")]) == 0
    said, _ = asked(project, capsys, PICTURES, 0)
    assert len(said["next"]) == PICTURES
    assert said["failed"] == []


def test_what_was_handed_out_before_stays_and_stops_no_other_picture(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", "next", str(project), "--count", "3", "-o", str(tmp_path / "edit")]
    assert main([*command, "--json"]) == 0
    files = [Path(one["files"]["labels"]) for one in json.loads(capsys.readouterr().out)["next"]]
    edited = files[0]
    tifffile.imwrite(edited, np.ones((30, 40), np.uint8))
    files[1].unlink()
    written = files[2].stat().st_mtime_ns
    assert main([*command, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert {one["files"]["labels"] for one in said["next"]} == {str(path) for path in files[1:]}
    (failed,) = said["failed"]
    assert f"{edited} holds something else: somebody has edited it" in failed["error"]
    assert tifffile.imread(edited).all()
    assert files[1].is_file()
    assert files[2].stat().st_mtime_ns == written


def test_a_plane_of_a_stack_is_brought_in(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = np.zeros((3, 30, 40), np.uint8)
    planes[1, 5:9, 5:9], planes[1, 20:25, 20:25] = 1, 2
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, planes, metadata={"axes": "ZYX"}, ome=True)
    command = ["engine", "label", str(project), "0.png", "--author", "ada", "--labels", str(stack)]
    assert main(command) == 1
    assert "choose one, such as --plane Z=0" in capsys.readouterr().err
    assert main([*command, "--plane", "Z=1"]) == 0
    assert "2 added" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["engine", "label", str(project), "0.png", "--accept-all", "--plane", "1"])
    assert "--plane belongs to --labels" in capsys.readouterr().err
