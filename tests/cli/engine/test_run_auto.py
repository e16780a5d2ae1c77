"""``engine run-auto``: objects in all pictures, nothing twice, and people left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.engine.cells import PICTURES, Run, true_labels
from tests.model.inference.tiny_models import TINY_VIT, make_model

from sam_plugins.cli.app import main
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


def test_run_auto_finds_everything_and_leaves_people_alone(
    project: Run, bright: None, pictures: Path, tmp_path: Path
) -> None:
    brought = tmp_path / "brought.png"
    labels = true_labels(pictures, "cells-3a.png")
    Image.fromarray(np.where(labels == 1, labels, 0).astype(np.uint8)).save(brought)
    project("label", "cells-3a.png", "--labels", brought, "--incomplete")
    project("label", "cells-4a.png", "--complete")
    some = project("run-auto", "--min-score", "0", "--limit", "2")
    assert ([one["objects"] for one in some["results"]], some["left"]) == ([3, 3], 5)
    rest = project("run-auto", "--min-score", "0")
    assert (len(rest["results"]), rest["done_before"], rest["left"]) == (5, 2, 0)
    assert project("run-auto", "--min-score", "0")["results"] == []
    assert len(project("run-auto")["results"]) == 7  # other options, another work
    found = project("status", "--image", "cells-3a.png")["objects"]
    assert [one["review"] for one in found].count("accepted") == 1
    assert len(found) == 3
    assert project("status", "--image", "cells-4a.png")["objects"] == []
    assert project("status")["objects"]["proposed"] == 6 * 3 + 2


def test_pictures_that_are_gone_use_up_no_limit(project: Run, bright: None, pictures: Path) -> None:
    with Project.open(Path(os.environ["SAM_PLUGINS_HOME"]).parent / "project") as opened:
        first, *others = [one.path for one in opened.labels.images()]
    first.unlink()
    reached = []
    for _ in range(3):
        done = project("run-auto", "--min-score", "0", "--limit", "3", code=1)
        assert [one["image"] for one in done["failed"]] == [str(first)]
        reached += [one["path"] for one in done["results"]]
    assert sorted(reached) == sorted(map(str, others))
    assert done["left"] == 0


def test_what_is_rejected_is_not_proposed_again(project: Run, bright: None) -> None:
    project("run-auto", "--min-score", "0", "--limit", "1")
    (image_id,) = [
        one["image_id"]
        for one in project("run-auto", "--min-score", "0.1", "--limit", "1")["results"]
    ]
    objects = project("status", "--image", image_id)["objects"]
    with Project.open(Path(os.environ["SAM_PLUGINS_HOME"]).parent / "project") as opened:
        opened.labels.set_review(objects[0]["object_id"], "rejected", author="ada")
    project("run-auto", "--min-score", "0.2", "--limit", "1")
    after = project("status", "--image", image_id)["objects"]
    assert sorted(one["review"] for one in after) == ["proposed", "proposed", "rejected"]


def test_the_grid_asks_a_model_without_an_instance_decoder(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    passport = Passport("vit", TINY_VIT, version="1", licence="CC0")
    network = make_model(TINY_VIT, "vit").network
    path = save_model_file(tmp_path / "vit.safetensors", network.state_dict(), passport)
    run("init", "--name", "vit-cells", "--model", path)
    run("import", pictures / "cells-0a.png", pictures / "cells-1a.png")
    assert "needs a model with an instance decoder" in run("run-auto", "--mode", "decoder", code=1)
    loose = ["--points", "3", "--crop-layers", "1", "--min-iou", "0", "--min-stability", "0"]
    done = run("run-auto", *loose, "--min-region", "0")
    assert len(done["results"]) == 2
    assert all(one["objects"] > 0 for one in done["results"])
    (first, *_) = run("status", "--image", "cells-0a.png")["objects"]
    assert first["stage"] == "fully-automatic"
    assert first["prompts"][0]["kind"] == "seed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--points", "3"], "--points is for --mode grid; the instance decoder places its own"),
        (["--mode", "grid", "--points", "0"], "--points must be 1 or more, got 0"),
        (["--mode", "grid", "--max-overlap", "7"], "--max-overlap must lie in [0, 1], got 7"),
    ],
)
def test_options_of_the_grid_are_told_by_their_names(
    project: Run,
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["engine", "run-auto", str(tmp_path / "project"), *options])
    assert message in capsys.readouterr().err


def test_killed_run_auto_goes_on_where_it_was(project: Run, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    script = f"""
import os, signal
from sam_plugins.cli.app import main
from sam_plugins.model.engine.label_store import Split
from sam_plugins.model.engine.project import automatic
from sam_plugins.model.engine.project.enough import too_few_labelled
store, seen = automatic._replace, []
def killed_between_storing_and_noting(*arguments):
    found = store(*arguments)
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
automatic._replace = killed_between_storing_and_noting
main(["engine", "run-auto", {str(folder)!r}, "--min-score", "0", "--json"])
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with Project.open(folder) as opened:
        before = opened.state.automatic()
        objects = {one.object_id for one in opened.labels.objects()}
    assert len(before) == 2
    assert project("status")["job"] is None  # who was killed holds nothing
    done = project("run-auto", "--min-score", "0")
    assert (len(done["results"]), done["done_before"]) == (PICTURES - 2, 2)
    with Project.open(folder) as opened:
        after = opened.state.automatic()
        assert {name: after[name] for name in before} == before
        assert len(after) == PICTURES
        # Nothing twice: what the third picture had already was found again.
        assert objects <= {one.object_id for one in opened.labels.objects()}
        for record in opened.labels.images():
            found = opened.labels.objects(record.image_id)
            assert len(found) == after[record.image_id][0]
        assert opened.state.last_job().outcome == "done"
