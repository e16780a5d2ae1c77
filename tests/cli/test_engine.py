"""``sam-plugins engine``: a project from its beginning to an export, and what cannot go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model
from tests.quick_training import make_training_quick

from sam_plugins.cli.app import main
from sam_plugins.model.engine import automatic_masks
from sam_plugins.model.engine.label_store import Split
from sam_plugins.model.engine.project import automatic
from sam_plugins.model.engine.project.enough import too_few_labelled
from sam_plugins.model.engine.project.learning import judged_proposals
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport
from sam_plugins.model.weights.store import ModelStore

Run = Callable[..., Any]
PICTURES = 8


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A tiny model on disk."""
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    return save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures with three discs each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(PICTURES):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"cells-{seed}a.png")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run an action on the project; return its JSON, or the error where a code is expected."""

    def call(action: str, *arguments: object, code: int = 0) -> Any:
        project = str(tmp_path / "project")
        capsys.readouterr()
        assert main(["engine", action, project, *map(str, arguments), "--json"]) == code
        said = capsys.readouterr()
        values = json.loads(said.out)
        return values if code == 0 else values.get("error", values)

    return call


@pytest.fixture
def project(run: Run, parent: Path, pictures: Path) -> Run:
    """A project with all pictures."""
    run("init", "--name", "cells", "--model", parent, "--held-out", "0.25")
    run("import", pictures)
    return run


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let proposals be what is bright: random weights would propose anything or nothing."""

    def propose(model: Any, rgb: Any, *, min_score: float = 0.5, encode: Any) -> list[Proposal]:
        labels, _ = ndimage.label(rgb[..., 0] > 127)
        return [
            Proposal(WindowMask(window, labels[window] == index), 0.9 - index / 10, (1.0, 1.0))
            for index, window in enumerate(ndimage.find_objects(labels), start=1)
            if 0.9 - index / 10 >= min_score
        ]

    monkeypatch.setattr(automatic, "propose", propose)
    monkeypatch.setattr(automatic_masks, "propose", propose)


def true_labels(pictures: Path, name: str) -> np.ndarray:
    """Return the labels of a picture by its name."""
    return discs(int(Path(name).stem.removeprefix("cells-").removesuffix("a")))


def label_all(run: Run, tmp_path: Path, pictures: Path) -> None:
    """Bring in all labels."""
    for path in sorted(pictures.iterdir()):
        brought = tmp_path / f"brought-{path.stem}.png"
        Image.fromarray(true_labels(pictures, path.name)).save(brought)
        run("label", path, "--labels", brought, "--author", "ada", "--seconds", "6")


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


def test_next_names_pictures_with_the_reason(project: Run, pictures: Path) -> None:
    values = project("next", "--count", "4")
    assert len(values["next"]) == 4
    gains = [one["gain"] for one in values["next"]]
    # One in four is measured on, and drawn by chance.
    assert [gain is None for gain in gains] == [False, False, False, True]
    assert [one["split"] for one in values["next"]] == ["train"] * 3 + ["held-out"]
    for gain in gains[:3]:
        assert 0 <= gain["total"] <= 1
        assert {"disagreement", "expected_error", "novelty"} <= set(gain)
    again = project("next", "--count", "4")
    assert [one["image_id"] for one in again["next"]] == [one["image_id"] for one in values["next"]]
    assert project("status")["job"] is None


def test_what_a_model_said_is_not_asked_again(
    project: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam_plugins.model.engine.project import choosing

    project("next", "--max-pool", "3")
    measured: list[str] = []
    measure = choosing.measure_signals

    def counted(model: Any, image_id: str, embedding: Any, **more: Any) -> Any:
        measured.append(image_id)
        return measure(model, image_id, embedding, **more)

    monkeypatch.setattr(choosing, "measure_signals", counted)
    project("next", "--max-pool", "3")
    assert measured == []
    project("next")
    assert len(measured) == 3  # six to learn from, three known


def test_proposals_are_edited_elsewhere_and_brought_back(
    project: Run, bright: None, pictures: Path, tmp_path: Path
) -> None:
    handed = project("next", "--propose", "--min-score", "0", "-o", tmp_path / "out")["next"][0]
    assert [one["review"] for one in handed["objects"]] == ["proposed"] * 3
    assert [one["stage"] for one in handed["objects"]] == ["semi-automatic"] * 3
    assert handed["objects"][0]["prompts"][0]["kind"] == "seed"
    path = Path(handed["files"]["labels"])
    labels = tifffile.imread(path)
    assert np.array_equal(labels > 0, true_labels(pictures, handed["path"]) > 0)
    assert Path(handed["files"]["overlay"]).is_file()
    again = project("next", "--propose", "--min-score", "0", "-o", tmp_path / "out")["next"][0]
    assert again["files"] == handed["files"]

    # One stays, one loses a part, one goes, one is new.
    _, second, third = (int(n) for n in np.unique(labels)[1:])
    rows = np.nonzero((labels == second).any(axis=1))[0]
    labels[rows[0] : rows[0] + 4][labels[rows[0] : rows[0] + 4] == second] = 0
    labels[labels == third] = 0
    labels[40:46, 54:62] = 99
    tifffile.imwrite(path, labels)
    handed_out = project("next", "--propose", "--min-score", "0", "-o", tmp_path / "out", code=1)
    (failed,) = handed_out["failed"]
    assert "somebody has edited it" in failed["error"]
    assert np.array_equal(tifffile.imread(path), labels)
    done = project(
        "label", handed["image_id"], "--labels", path, "--author", "ada", "--seconds", "8"
    )
    assert [done[key] for key in ("accepted", "corrected", "added", "rejected")] == [1, 1, 1, 1]
    by_review = {one["review"]: one for one in done["objects"] if one["stage"] != "imported"}
    assert set(by_review) == {"accepted", "corrected", "rejected"}
    assert all(one["author"] == "ada" for one in done["objects"])
    assert [one["seconds"] for one in done["objects"]] == [2.0] * 4
    assert by_review["corrected"]["prompts"][0]["kind"] == "seed"
    assert done["is_complete"] is True
    work = project("status")["work"]
    assert (work["objects"], work["untouched"], work["rejected"]) == (3, 1, 1)
    assert work["seconds_per_object"] == 2.0


def test_the_right_label_image_mends_what_that_of_another_picture_did(
    project: Run, bright: None, tmp_path: Path
) -> None:
    handed = project("next", "--propose", "--min-score", "0", "-o", tmp_path / "out")["next"][0]
    wrong = tmp_path / "wrong.png"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(wrong)
    done = project("label", handed["image_id"], "--labels", wrong, "--author", "ada")
    assert (done["accepted"], done["rejected"]) == (0, 3)
    right = handed["files"]["labels"]
    done = project("label", handed["image_id"], "--labels", right, "--author", "ada")
    assert [done[key] for key in ("accepted", "added", "rejected")] == [3, 0, 0]
    assert [one["review"] for one in done["objects"]] == ["accepted"] * 3
    assert project("status")["work"]["rejected"] == 0


@pytest.mark.parametrize("parts", [4, 5])
@pytest.mark.parametrize("action", ["label", "import"])
@pytest.mark.filterwarnings("default::sam_plugins.model.io.label_files.MaskWarning")
@pytest.mark.usefixtures("project")
def test_a_mask_of_many_objects_is_told_of(
    action: str, parts: int, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    for part in range(parts):
        mask[4:8, 12 * part : 12 * part + 6] = 255
    masks = tmp_path / "masks"
    masks.mkdir()
    for picture in pictures.iterdir():
        Image.fromarray(mask).save(masks / picture.name)
    arguments = {
        "label": ["cells-2a.png", "--labels", str(masks / "cells-2a.png")],
        "import": [str(pictures), "--format", "labels", "--labels", str(masks)],
    }
    capsys.readouterr()
    assert main(["engine", action, str(tmp_path / "project"), *arguments[action]]) == 0
    said = capsys.readouterr().err
    assert ("are one object, in 5 parts" in said) == (parts == 5), said


def test_prompts_are_answered_by_the_model(project: Run, pictures: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    document = {
        "objects": [
            {"points_xy": [[12, 12], [40, 40]], "point_labels": [1, 0], "seconds": 1.5},
            {"box_xyxy": [12, 26, 30, 44], "class_name": "nucleus"},
        ]
    }
    prompts.write_text(json.dumps(document))
    done = project("label", "cells-0a.png", "--prompts", prompts, "--author", "ada", "--seconds", 4)
    assert (done["added"], done["is_complete"]) == (2, False)
    first, second = done["objects"]
    assert (first["seconds"], second["seconds"]) == (1.5, 4.0)
    assert [event["kind"] for event in first["prompts"]] == ["point", "point"]
    assert [event["is_positive"] for event in first["prompts"]] == [True, False]
    assert second["prompts"][0] == {
        "kind": "box", "values": [12.0, 26.0, 30.0, 44.0], "is_positive": True,
    }  # fmt: skip
    assert second["class_name"] == "nucleus"
    assert first["stage"] == "assisted-manual"
    assert first["model_id"].startswith("tiny-")
    assert first["score"] is not None

    again = {"objects": [{"points_xy": [[14, 14]], "corrects": first["object_id"]}],
             "reject": [second["object_id"]]}  # fmt: skip
    prompts.write_text(json.dumps(again))
    done = project("label", "cells-0a.png", "--prompts", prompts, "--complete")
    assert (done["corrected"], done["rejected"], done["added"]) == (1, 1, 0)
    corrected = done["objects"][0]
    assert (corrected["object_id"], corrected["review"]) == (first["object_id"], "corrected")
    assert len(corrected["prompts"]) == 3
    assert done["is_complete"] is True


def test_only_what_the_model_in_use_proposed_says_what_pays(
    project: Run, bright: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first version whose proposals did not pay does not keep the next one from proposing."""
    first = project("next", "--propose", "--min-score", "0")
    handed = first["next"][0]
    objects = [one["object_id"] for one in handed["objects"]]
    with Project.open(tmp_path / "project") as opened:
        known = opened.labels.objects(handed["image_id"])
        opened.labels.put_objects(
            replace(one, object_id=f"{one.object_id}-{copy}") for one in known for copy in range(9)
        )
        judged = [one.object_id for one in opened.labels.objects() if one.object_id not in objects]
        for one in judged:
            opened.labels.set_review(one, "rejected", author="ada")
    # An answer of a later model to a correction changes nothing about who proposed.
    prompts = tmp_path / "prompts.json"
    click = {"corrects": objects[0], "points_xy": [[1, 1]]}
    prompts.write_text(json.dumps({"objects": [click], "reject": objects[1:]}))
    project("label", handed["image_id"], "--prompts", prompts, "--author", "ada")
    with Project.open(tmp_path / "project") as opened:
        by_first = judged_proposals(opened, first["model"])
        assert (len(by_first), sum(real for _, real in by_first)) == (30, 1)
        assert max(by_first) == (known[0].score, True)
        assert judged_proposals(opened, "another") == []
    assert project("next", "--propose")["min_score"] == 1.0

    other = make_model(TINY_PYRAMID, "tiny", seed=1)
    passport = Passport("tiny", TINY_PYRAMID, version="2", licence="CC0")
    path = save_model_file(tmp_path / "2.safetensors", other.network.state_dict(), passport)
    monkeypatch.setattr(Project, "model_name", lambda _: str(path))
    second = project("next", "--propose")
    assert second["model"] != first["model"]
    assert second["min_score"] == 0.5
    assert second["next"][0]["objects"]


def test_all_proposals_are_accepted_at_once(project: Run, bright: None) -> None:
    handed = project("next", "--propose", "--min-score", "0")["next"][0]
    done = project("label", handed["image_id"], "--accept-all", "--complete")
    assert done["accepted"] == 3
    assert {one["review"] for one in done["objects"]} == {"accepted"}
    assert project("status")["work"]["clicks_per_object"] == 0
    # What is labelled is not proposed again.
    assert handed["image_id"] not in {
        one["image_id"] for one in project("next", "--count", "8")["next"]
    }


def test_labels_of_another_picture_are_refused(project: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.png"
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(wrong)
    assert r"must have shape (48, 64) and hold integers, got shape (5, 5)" in project(
        "label", "cells-0a.png", "--labels", wrong, code=1
    )
    tifffile.imwrite(tmp_path / "wrong.tif", np.full((48, 64), -1, np.int16))
    assert "labels must not be negative, got -1" in project(
        "label", "cells-0a.png", "--labels", tmp_path / "wrong.tif", code=1
    )
    assert "is no picture of the project" in project("label", "x.png", "--complete", code=1)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "are no JSON"),
        ("[]", "must be a JSON object with 'objects', 'accept' and 'reject', got []"),
        ('{"object": []}', "got object"),
        ('{"objects": {}}', "must be lists"),
        ("{}", "the prompts ask for nothing"),
        ('{"objects": [{"point": [1, 2]}]}', "object 1 of the prompts must be a JSON object of"),
        ('{"objects": [{"points_xy": [1, 2]}]}', "points_xy must have shape (K, 2)"),
        ('{"objects": [{"points_xy": [[99, 2]]}]}', "must lie within the picture"),
        ('{"objects": [{"points_xy": [[9, 2]], "seconds": -1}]}', "seconds must be 0 or more"),
        ('{"accept": ["none"]}', "has no object 'none'"),
    ],
)
def test_bad_prompts_are_told(project: Run, tmp_path: Path, document: str, message: str) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(document)
    assert message in project("label", "cells-0a.png", "--prompts", prompts, code=1)
    assert project("status")["work"]["objects"] == 0


def test_from_labels_to_a_model_in_use(
    project: Run,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_training_quick(monkeypatch)
    assert "training needs labelled pictures to learn from and" in project("train", code=1)
    label_all(project, tmp_path, pictures)
    quick = ["--steps", "30", "--rounds", "1", "--learning-rate", "0.01", "--note", "first"]
    trained = project("train", *quick)
    assert (trained["round"], trained["version"]) == (1, "cells@1")
    assert (trained["pictures"], trained["held_out"], trained["objects"]) == (6, 2, 18)
    assert [one["share"] for one in trained["rounds"]] == [1, 1, 0.6, 0.3]
    status = project("status")
    assert [one["version"] for one in status["rounds"]] == ["cells@1"]
    assert status["rounds"][0]["details"]["work"]["objects"] == 24
    # Two held-out pictures prove nothing.
    assert "is not better beyond doubt" in project("promote", code=1)
    assert status["model"].endswith("tiny.safetensors")
    promoted = project("promote", "--force")
    assert (promoted["version"], promoted["is_in_use"]) == ("cells@1", True)
    assert project("status")["model"] == "cells@1"
    assert ModelStore().find("cells").note == "first"
    # Another project of that name would go on with it.
    other, parent = str(tmp_path / "other"), str(tmp_path / "tiny.safetensors")
    assert main(["engine", "init", other, "--name", "cells", "--model", parent]) == 0
    said = capsys.readouterr()
    assert "project cells, beginning with cells@1" in said.out
    assert "the model store has versions of 'cells' already" in said.err
    # The next training starts from it.
    second = project("train", "--steps", "2", "--rounds", "1", "--learning-rate", "1e-12")
    assert second["version"] is None
    assert second["comparison"]["parent"] == ModelStore().find("cells").model_id


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


def test_one_job_at_a_time_and_who_it_is(project: Run, pictures: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from sam_plugins.model.engine.project.project import Project
with Project.open({str(tmp_path / "project")!r}) as project, project.job("train"):
    print("ready", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        for action in (["next"], ["run-auto"], ["train"], ["promote"], ["import", pictures]):
            error = project(*action, code=1)
            assert "another job is at work on" in error
            assert "'train' by " in error
            assert f"(process {other.pid}), since 20" in error
        assert "'train' by" in project("status")["job"]
        # People go on labelling.
        project("label", "cells-0a.png", "--complete")
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait() == 0
    assert project("next")["next"]


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["next", "P", "--count", "0"], "--count and --max-pool must be 1 or more"),
        (["next", "P", "--weights", "1,2"], "must be three numbers such as 1,1,0.5: not enough"),
        (["next", "P", "--weights", "0,0,0"], "weights must be 0 or more and one of them above"),
        (["next", "P", "--min-score", "2"], "--min-score must lie between 0 and 1, got 2"),
        (["label", "P", "a"], "give --labels, --prompts, --accept-all, --complete"),
        (["label", "P", "a", "--labels", "b", "--accept-all"], "--labels says it all"),
        (["label", "P", "a", "--complete", "--keep"], "--keep belongs to --labels"),
        (["label", "P", "a", "--complete", "--seconds", "-1"], "seconds must be 0 or more"),
        (["import", "P", "a", "--labels", "b"], "--labels belongs to --format labels"),
        (["import", "P", "a", "--images", "b"], "--images belongs to --format coco"),
        (["import", "P", "a", "b", "--format", "coco"], "takes one SOURCE, got 2"),
        (["import", "P", "a", "--group", "("], "--group: "),
        (["init", "P", "--name", "cells", "--held-out", "1"], "--held-out must lie between 0 and"),
        (["run-auto", "P", "--limit", "0"], "--limit must be 1 or more, got 0"),
        (["promote", "P", "--version", "-1"], "--version: versions are counted from 1, got '-1'; "),
        (["promote", "P", "--version", "0"], "--version: versions are counted from 1, got '0'; "),
        (["train", "P", "--rounds", "9", "--steps", "3"], "--rounds must lie between 1 and --st"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["engine", *arguments])
    assert message in capsys.readouterr().err


def test_a_folder_without_a_project_is_told(tmp_path: Path, run: Run) -> None:
    assert "holds no project of the data engine" in run("status", code=1)
    assert "must be 1 to 64 of a-z" in run("init", "--name", "No Name", code=1)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "project.sqlite").write_bytes(b"something else entirely" * 50)
    assert "check that the disk has space" in run("status", code=1)
    unknown = run("init", "--name", "cells", "--model", "no-such-model", code=1)
    assert "no-such-model" in unknown


def test_people_read_it_too(
    project: Run, bright: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "project")
    assert main(["engine", "next", folder, "--count", "2", "--propose", "--min-score", "0"]) == 0
    printed = capsys.readouterr().out
    assert "DISAGREEMENT" in printed
    assert "learning" in printed
    assert main(["engine", "label", folder, "cells-0a.png", "--accept-all"]) == 0
    assert main(["engine", "run-auto", folder, "--limit", "1"]) == 0
    assert "are left" in capsys.readouterr().out
    assert main(["engine", "status", folder]) == 0
    printed = capsys.readouterr().out
    assert "of 6 pictures labelled" in printed
    assert main(["engine", "status", folder, "--image", "cells-0a.png"]) == 0
    assert "cells-0a.png (" in capsys.readouterr().out


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


def test_pictures_of_the_same_name_get_files_of_their_own(
    project: Run, pictures: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "elsewhere" / "cells-0a.png"
    twin.parent.mkdir()
    Image.fromarray(255 - picture_of(discs(5))).save(twin)
    project("import", twin)
    handed = project("next", "--count", "9", "-o", tmp_path / "out")["next"]
    names = [one["files"]["labels"] for one in handed]
    assert len(set(names)) == 9
    assert "means 2 pictures of the project" in project(
        "label", "cells-0a.png", "--complete", code=1
    )
