"""From a data set with categories and a model to figures of text to mask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.labelled_sets import write_sets
from tests.model.inference.tiny_clip import DIM, write_tiny_clip
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.evaluation.tasks.task import MODEL
from sam_plugins.model.evaluation.tasks.text import CHANCE, Text
from sam_plugins.model.evaluation.text_finders import (
    PromptedFinder,
    RankedFinder,
)
from sam_plugins.model.inference.clip import load_clip
from sam_plugins.model.io.labelled import list_manifest_files


@pytest.fixture
def named_sets(tmp_path: Path) -> Path:
    """Two sets, of which the photos say what their objects are."""
    root = write_sets(tmp_path / "sets")
    path = root / "photos" / "manifest.json"
    manifest = json.loads(path.read_text())
    for one, name in zip(manifest["files"][0]["objects"], ("cat", "dog", "cat"), strict=True):
        one["category"] = name
    path.write_text(json.dumps(manifest))
    return root


@pytest.mark.parametrize("is_trained", [False, True])
def test_both_ways_to_find_are_measured(named_sets: Path, tmp_path: Path, is_trained: bool) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
    clip = load_clip(write_tiny_clip(tmp_path / "clip"), device="cpu")
    prompts = replace(TINY_PYRAMID.prompt_encoder, text_dim=DIM)
    config = replace(TINY_PYRAMID, prompt_encoder=prompts) if is_trained else TINY_PYRAMID
    model = make_model(config, "tiny")
    finder = PromptedFinder(model, clip) if is_trained else RankedFinder(model, clip)
    file = list_manifest_files(named_sets, ["photos"])[0]
    measured = Text(finder).measure(file.read())
    asked, other = measured.scores[MODEL], measured.scores[CHANCE]
    assert [one.phrase for one in asked] == [one.phrase for one in other] == ["cat", "dog"]
    assert all(0 <= one.iou <= 1 for one in (*asked, *other))
    assert len(measured.draw()) == 4
