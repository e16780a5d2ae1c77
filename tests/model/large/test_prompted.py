"""Prompted objects of large pictures: what is written is what was answered, part by part."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.large import prompted
from sam_plugins.model.large.embedding import TiledEmbedding
from sam_plugins.model.large.prompted import segment_prompted
from sam_plugins.model.large.prompts import predict_large
from sam_plugins.model.large.results import LargeSegmentation, work_folder
from sam_plugins.model.large.sources import ArraySource

BOXES = Prompts(boxes_xyxy=[[20, 30, 60, 80], [300, 100, 620, 460], [310, 110, 330, 130]])


@pytest.fixture(scope="module")
def tiny() -> Model:
    return make_model(TINY_PYRAMID, "tiny")


@pytest.fixture(scope="module")
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (500, 700, 3), dtype=np.uint8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "a_labels.zarr"


def asked(
    picture: npt.NDArray[np.uint8], output: Path, model: Model, prompts: Prompts, **options: Any
) -> LargeSegmentation:
    source = ArraySource(picture, channel_axis=2)
    return segment_prompted(
        source, output, model, prompts, tile=128, cache=EmbeddingCache(), **options
    )


def test_labels_are_the_masks_and_the_more_confident_one_wins(
    picture: npt.NDArray[np.uint8], output: Path, tiny: Model
) -> None:
    found = asked(picture, output, tiny, BOXES)
    answer = predict_large(TiledEmbedding(tiny, picture, tile=128, cache=EmbeddingCache()), BOXES)
    expected = np.zeros(picture.shape[:2], np.uint32)
    for index in np.argsort(answer.iou_predictions.max(axis=1), kind="stable"):
        window, mask = answer.window_mask(index)
        expected[window][mask] = index + 1
    assert len(np.unique(expected)) > 2
    assert (found.labels()[:] == expected).all()
    rows = list(csv.DictReader(found.table.read_text().splitlines()))
    assert [int(row["label"]) for row in rows] == np.unique(expected)[1:].tolist()
    for row in rows:
        ys, xs = np.nonzero(expected == int(row["label"]))
        box = [int(row[name]) for name in ("x0", "y0", "x1", "y1")]
        assert box == [xs.min(), ys.min(), xs.max(), ys.max()]
        assert int(row["area"]) == len(xs)
    assert (float(rows[0]["point_x"]), float(rows[0]["point_y"])) == (40.0, 55.0)
    assert not work_folder(output).exists()


def test_one_of_three_masks_can_be_chosen(
    picture: npt.NDArray[np.uint8], output: Path, tiny: Model
) -> None:
    click = Prompts.for_object([[350, 240]])
    embedding = TiledEmbedding(tiny, picture, tile=128, cache=EmbeddingCache())
    answer = predict_large(embedding, click)
    for which in range(3):
        found = asked(picture, output, tiny, click, which=which, overwrite=True)
        window, mask = answer.window_mask(0, which)
        expected = np.zeros(picture.shape[:2], bool)
        expected[window] = mask
        assert ((found.labels()[:] > 0) == expected).all()


def test_the_same_question_is_answered_at_once_and_another_replaces_nothing(
    picture: npt.NDArray[np.uint8], output: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asked(picture, output, tiny, BOXES)
    with monkeypatch.context() as patched:
        patched.setattr(prompted, "predict_large", lambda *_: pytest.fail("asked again"))
        assert asked(picture, output, tiny, BOXES) == first
        with pytest.raises(OutputError, match="was made with other settings"):
            asked(picture, output, tiny, BOXES[:1])
    assert len(asked(picture, output, tiny, BOXES[:1], overwrite=True)) <= 1


def test_prompts_outside_are_refused_before_anything_is_made(
    picture: npt.NDArray[np.uint8], output: Path, tiny: Model
) -> None:
    with pytest.raises(ValueError, match="points_xy must lie within the picture"):
        asked(picture, output, tiny, Prompts.for_object([[700, 3]]))
    assert not list(output.parent.iterdir())


def test_what_fails_while_it_is_written_leaves_the_earlier_labels_and_nothing_else(
    picture: npt.NDArray[np.uint8], output: Path, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asked(picture, output, tiny, BOXES).labels()[:]

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(prompted.LabelPyramid, "write", full)
    with pytest.raises(OutputError, match="full"):
        asked(picture, output, tiny, BOXES, overwrite=True)
    again = LargeSegmentation(output, output, 0)
    assert (again.labels()[:] == first).all()
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "a_labels.zarr",
        "a_objects.csv",
    ]
