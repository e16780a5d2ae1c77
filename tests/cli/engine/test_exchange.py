"""``engine export`` and ``import --format``: labels leave and come in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.engine.cells import PICTURES, Run, label_all, true_labels
from tests.labelled_sets import discs

from sam_plugins.cli.app import main
from sam_plugins.model.engine.project.project import Project


@pytest.mark.parametrize("name", ["labels", "coco", "sa1b", "label-studio"])
def test_labels_leave_in_every_format(
    project: Run, pictures: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / ("out.json" if name in {"coco", "label-studio"} else "out")
    assert "has nothing to export" in project("export", "-o", path, "--format", name, code=1)
    label_all(project, tmp_path, pictures)
    written = project("export", "-o", path, "--format", name)
    assert written["objects"] == 3 * PICTURES
    if name == "labels":
        labels = tifffile.imread(path / "labels" / "cells-2a.tif")
        assert np.array_equal(labels > 0, discs(2) > 0)
    more = ("--split", "held-out", "--overwrite")
    assert project("export", "-o", path, "--format", name, *more)["objects"] == 6


def test_labels_that_exist_come_in(run: Run, parent: Path, pictures: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in pictures.iterdir():
        Image.fromarray(true_labels(pictures, path.name)).save(labels / path.name)
    run("init", "--name", "cells", "--model", parent)
    done = run("import", pictures, "--format", "labels", "--labels", labels, "--complete")
    assert done["objects_added"] == 3 * PICTURES
    assert run("status")["pictures"]["train"]["labelled"] == 6
    assert "every picture of the project is labelled" in run("next", code=1)


def test_what_models_made_elsewhere_comes_in_as_proposals(
    project: Run, pictures: Path, tmp_path: Path, parent: Path
) -> None:
    label_all(project, tmp_path, pictures)
    project("export", "-o", tmp_path / "out", "--format", "sa1b")
    for path in (tmp_path / "out").glob("*.json"):
        document = json.loads(path.read_text())
        for annotation in document["annotations"]:
            annotation.pop("sam_plugins", None)
        document["image"].pop("sam_plugins", None)
        path.write_text(json.dumps(document))
    other = str(tmp_path / "other")
    init = ["engine", "init", other, "--name", "other", "--model", str(parent)]
    assert main(init) == 0
    assert main(["engine", "import", other, str(tmp_path / "out"), "--format", "sa1b"]) == 0
    with Project.open(other) as opened:
        assert {str(one.review) for one in opened.labels.objects()} == {"proposed"}
        assert len(opened.labels.objects()) == 3 * PICTURES
