"""The data engine looks at pictures as ``segment`` does: small objects in windows."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model
from tests.small_objects import REDUCED, WHOLE, row_of_coins

from sam_plugins.cli.app import main
from sam_plugins.model.engine.automatic_masks import AutomaticMask, AutomaticOptions
from sam_plugins.model.engine.label_store import ReviewState
from sam_plugins.model.engine.project import automatic
from sam_plugins.model.engine.project.automatic import (
    AutomaticWork,
    FoundObjects,
    put_proposals,
)
from sam_plugins.model.engine.project.project import Project, ProjectSettings
from sam_plugins.model.engine.proposals import Proposal, propose
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.io.rle import encode_mask
from sam_plugins.model.large.whole import encoding_once, segment

DONE_BEFORE = "8da006c1e26e4284"
"""Of the model "tiny-1" and the usual options, when every picture was looked at as a whole."""


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("default", device="cpu")


@pytest.fixture(scope="module")
def found(model: Model) -> Segmentation:
    """What ``segment`` finds in the picture that the model sees reduced."""
    return segment(row_of_coins(REDUCED), model)


def test_what_segment_finds_in_windows_is_proposed(model: Model, found: Segmentation) -> None:
    rgb = to_rgb(row_of_coins(REDUCED))
    encoded: list[tuple[int, ...]] = []

    def encode(pixels: np.ndarray) -> ImageEmbedding:
        encoded.append(pixels.shape)
        return encode_rgb(model, pixels)

    once = encoding_once(rgb, encode)
    whole = once(rgb)
    proposed = propose(model, rgb, min_score=0, encode=once)
    assert encoded.count(rgb.shape) == 1
    assert len(encoded) > 3
    drawn = np.zeros(rgb.shape[:2], np.int32)
    for number, one in enumerate(proposed, start=1):
        drawn[one.window_mask.window][one.window_mask.mask] = number
    np.testing.assert_array_equal(drawn, found.labels)
    assert len(proposed) != len(segment_embedding(model, whole))


def test_a_picture_that_is_not_reduced_is_proposed_as_a_whole(model: Model) -> None:
    rgb = to_rgb(row_of_coins(WHOLE))
    whole = segment_embedding(model, encode_rgb(model, rgb))
    proposed = propose(model, rgb, min_score=0)
    assert [one.score for one in proposed] == pytest.approx(whole.scores.tolist())
    assert sum(np.count_nonzero(one.window_mask.mask) for one in proposed) == np.count_nonzero(
        whole.labels
    )


def test_run_auto_finds_what_segment_finds(
    found: Segmentation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, project = tmp_path / "coins.png", str(tmp_path / "project")
    Image.fromarray(row_of_coins(REDUCED)).save(picture)
    assert main(["engine", "init", project, "--name", "coins", "--model", "default"]) == 0
    assert main(["engine", "import", project, str(picture)]) == 0
    capsys.readouterr()
    asked = ["run-auto", project, "--min-score", "0", "--device", "cpu", "--json"]
    assert main(["engine", *asked]) == 0
    said = capsys.readouterr()
    assert [one["objects"] for one in json.loads(said.out)["results"]] == [len(found)]
    assert "segment_large" not in said.err  # it cannot be followed here


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two pictures: one that the tiny model sees as it is, and one that it sees reduced."""
    for name, width in (("as-it-is", 120), ("reduced", 180)):
        Image.fromarray(np.full((40, width), 7, np.uint8)).save(tmp_path / f"{name}.png")
    made = Project.create(tmp_path / "project", ProjectSettings("cells", "tiny"))
    made.labels.add_images(sorted(tmp_path.glob("*.png")))
    return made


def work_on(project: Project, model: Model, options: AutomaticOptions) -> AutomaticWork:
    return AutomaticWork(project, model, options, EmbeddingCache())


@pytest.mark.parametrize("mode", ["decoder", "grid"])
def test_only_reduced_pictures_are_done_once_more(project: Project, mode: str) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    work = work_on(project, model, AutomaticOptions(mode=mode))  # type: ignore[arg-type]
    as_it_is, reduced = sorted(project.labels.images(), key=lambda one: one.size_hw)
    before = work.digest(as_it_is)  # what both had, and grids have
    for record in (as_it_is, reduced):
        project.state.put_automatic(record.image_id, before, model.model_id, 3, 1.0)
    pending = [reduced] if mode == "decoder" else []
    assert work.pending() == pending
    for record in pending:
        work.store(record, FoundObjects([], model.model_id, 1.0))
    assert work.pending() == []


def test_the_digest_of_pictures_seen_as_they_are_is_the_one_of_earlier_projects(
    project: Project,
) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    as_it_is, _ = sorted(project.labels.images(), key=lambda one: one.size_hw)
    same = replace(model, model_id="tiny-1")
    assert work_on(project, same, AutomaticOptions()).digest(as_it_is) == DONE_BEFORE


def test_a_judgement_of_an_object_seen_as_a_whole_is_not_taken_for_one_of_a_window(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    _, reduced = sorted(project.labels.images(), key=lambda one: one.size_hw)
    mask = np.ones((9, 9), bool)

    def proposes(column: int) -> None:
        window = (slice(0, 9), slice(column, column + 9))
        one = Proposal(WindowMask(window, mask), 0.9, (column + 4.0, 4.0))
        monkeypatch.setattr(automatic, "propose", lambda *_, **__: [one])

    put = partial(put_proposals, project, model, EmbeddingCache(), reduced)
    proposes(0)
    with monkeypatch.context() as before:
        before.setattr(automatic, "_way_of", lambda *_: "")
        (first,) = put()
    project.labels.set_review(first.object_id, ReviewState.ACCEPTED, author="ada")
    proposes(100)
    assert len(put()) == 1
    assert len(project.labels.objects(reduced.image_id)) == 2


def test_a_model_without_maps_looks_at_no_windows(project: Project) -> None:
    model = make_model(TINY_VIT, "tiny")
    _, reduced = sorted(project.labels.images(), key=lambda one: one.size_hw)
    mask = AutomaticMask(encode_mask(np.ones(reduced.size_hw, bool)), 0.9, (1.0, 1.0))
    work = work_on(project, model, AutomaticOptions(mode="grid"))
    work.store(reduced, FoundObjects([mask], model.model_id, 1.0))
    as_it_is, _ = sorted(project.labels.images(), key=lambda one: one.size_hw)
    assert work.pending() == [as_it_is]
