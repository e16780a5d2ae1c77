"""``engine label``: proposals are judged, prompts answered, label images brought back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.cli.engine.cells import Run, true_labels

from sam_plugins.cli.app import main


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
