"""``engine next``: which pictures are asked for and why, and what is proposed in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.cli.engine.cells import Run
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.engine.project.learning import judged_proposals
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


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
