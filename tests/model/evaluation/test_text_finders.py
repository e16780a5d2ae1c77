"""From a data set with categories and a model to figures of text to mask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.labelled_sets import write_sets
from tests.model.inference.tiny_clip import DIM, write_tiny_clip
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.text_finders import (
    PromptedFinder,
    RankedFinder,
    phrased_images,
)
from sam_plugins.model.evaluation.text_to_mask import evaluate_text_to_mask, summarise_text
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


def test_categories_are_phrases(named_sets: Path) -> None:
    files = list_manifest_files(named_sets, ["photos"])
    (image,) = phrased_images(named_sets, files)
    labels = files[0].read().labels
    assert image.id == "photos/p"
    np.testing.assert_array_equal(image.masks["cat"], np.isin(labels, [1, 3]))
    np.testing.assert_array_equal(image.masks["dog"], labels == 2)
    with pytest.raises(DatasetError, match="no object of cells has a category"):
        list(phrased_images(named_sets, list_manifest_files(named_sets, ["cells"])))


@pytest.mark.parametrize("is_trained", [False, True])
def test_both_ways_to_find_are_measured(named_sets: Path, tmp_path: Path, is_trained: bool) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
    clip = load_clip(write_tiny_clip(tmp_path / "clip"), device="cpu")
    prompts = replace(TINY_PYRAMID.prompt_encoder, text_dim=DIM)
    config = replace(TINY_PYRAMID, prompt_encoder=prompts) if is_trained else TINY_PYRAMID
    model = make_model(config, "tiny")
    finder = PromptedFinder(model, clip) if is_trained else RankedFinder(model, clip)
    images = list(phrased_images(named_sets, list_manifest_files(named_sets, ["photos"])))
    scores = list(evaluate_text_to_mask(finder, images))
    assert [score.phrase for score in scores] == ["cat", "dog"]
    assert all(0 <= score.iou <= 1 for score in scores)
    assert summarise_text(scores).n_pictures == 1
