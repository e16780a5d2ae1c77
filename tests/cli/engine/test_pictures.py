"""``engine init`` and ``import``: a project begins, and pictures come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.cli.engine.cells import PICTURES, Run
from tests.labelled_sets import discs, picture_of

from sam_plugins.cli.app import main
from sam_plugins.model.engine.label_store import Split
from sam_plugins.model.engine.project.enough import too_few_labelled
from sam_plugins.model.engine.project.project import Project


def test_a_project_is_made_once_and_says_what_is_in_it(project: Run, parent: Path) -> None:
    status = project("status")
    assert (status["name"], status["model"]) == ("cells", str(parent))
    assert status["pictures"]["train"] == {"all": 6, "labelled": 0, "complete": 0}
    assert status["pictures"]["held-out"]["all"] == 2
    assert status["work"]["objects"] == 0
    assert "holds a project already" in project("init", "--name", "cells", code=1)


def test_pictures_again_are_the_same_pictures(project: Run, pictures: Path) -> None:
    again = project("import", pictures / "*.png")
    assert again["new_images"] == 0
    assert len(again["images"]) == PICTURES
    assert again["splits"] == {"train": 6, "held-out": 2}


def test_too_few_held_out_pictures_are_told_at_the_import(
    project: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "project")
    assert main(["engine", "import", folder, str(pictures)]) == 0
    said = capsys.readouterr().err
    assert "2 pictures are held out to measure on, fewer than the 5 that tell a difference" in said
    assert "import more (of 20 in all, 5 are held out at this project's share of 0.25)" in said
    for seed in range(20, 32):
        Image.fromarray(picture_of(discs(seed))).save(tmp_path / f"more-{seed}.png")
    assert main(["engine", "import", folder, str(tmp_path / "more-*.png")]) == 0
    said = capsys.readouterr()
    assert "15 pictures to learn from, 5 to measure on" in said.out
    assert said.err == ""
    with Project.open(folder) as opened:
        first, second, *_ = opened.untouched(Split.HELD_OUT)
        assert too_few_labelled(opened) is None  # nothing is trained without any
        opened.labels.set_complete(first.image_id)
        told = too_few_labelled(opened)
        assert told is not None
        assert "1 labelled picture is held out to measure on, fewer than the 5 that" in told
        assert "label more of the 5 that are held out; `sam-plugins engine next`" in told
        opened.labels.set_complete(second.image_id)
        assert "2 labelled pictures are held out" in str(too_few_labelled(opened))
        for one in opened.untouched(Split.HELD_OUT):
            opened.labels.set_complete(one.image_id)
        assert too_few_labelled(opened) is None


def test_groups_are_not_divided(run: Run, parent: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"rat{seed // 3}-{seed}.png")
    run("init", "--name", "rats", "--model", parent, "--held-out", "0.5")
    assert run("import", folder, "--group", r"^(rat\d)")["splits"] == {"train": 3, "held-out": 3}


def test_pictures_of_one_group_are_learned_from_until_there_is_another(
    run: Run, parent: Path, pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run("init", "--name", "cells", "--model", parent)
    assert "the project has no pictures; import some" in run("next", code=1)
    first, *others = sorted(pictures.iterdir())
    assert run("import", first)["splits"] == {"train": 1, "held-out": 0}
    assert [one["path"] for one in run("next")["next"]] == [str(first)]
    assert run("status")["pictures"]["train"] == {"all": 1, "labelled": 0, "complete": 0}
    assert main(["engine", "import", str(tmp_path / "project"), str(first)]) == 0
    assert "none is held out: import others as well" in capsys.readouterr().out
    assert run("import", *others)["splits"] == {"train": 6, "held-out": 2}


def test_a_folder_whose_name_no_model_can_have_needs_another(
    parent: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["engine", "init", str(tmp_path / "my cells"), "--model", str(parent)]) == 1
    assert "got 'my cells', which is the folder's; give one with --name" in capsys.readouterr().err
    assert not (tmp_path / "my cells").exists()


def test_a_picture_that_cannot_be_read_is_told_and_the_others_go_on(
    project: Run, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = tmp_path / "good.png"
    Image.fromarray(picture_of(discs(12))).save(good)
    values = project("import", broken, good, code=1)
    assert values["new_images"] == 1
    assert "no image format that we know" in values["skipped"][0]["reason"]
    assert "no picture could be imported" in project("import", broken, code=1)
