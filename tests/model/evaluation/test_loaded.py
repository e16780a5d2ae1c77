"""A loaded model is asked for every object, also for those that are hardly there."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel, with_area
from sam_plugins.model.evaluation.single_point import evaluate_prompts
from sam_plugins.model.io.labelled import LabelledImage


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(make_model(TINY_PYRAMID, "tiny"))


def test_objects_one_pixel_wide_or_high_are_asked_for(loaded: LoadedModel) -> None:
    labels = np.zeros((60, 90), np.uint16)
    labels[30:40, 50] = 1  # one pixel wide
    labels[10, 5:20] = 2  # one pixel high
    labels[0, 89] = 3  # a single one, in the corner
    labels[45:55, 10:25] = 4
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    scores = list(evaluate_prompts(loaded, [LabelledImage("x", picture, labels, set_name="s")]))
    assert [score.object_id for score in scores] == [1, 2, 3, 4]
    assert all(math.isfinite(score.box_iou) for score in scores)


def test_points_get_three_masks_and_boxes_one(loaded: LoadedModel) -> None:
    embedding = loaded.encode(np.zeros((60, 90), np.uint8))
    points = np.array([[5, 5], [80, 50]] * 3, np.float32)
    boxes = np.array([[5, 5, 20, 30]] * 5, np.float32)
    assert loaded.predict_points(embedding, points).logits.shape[:2] == (6, 3)
    assert loaded.predict_boxes(embedding, boxes).logits.shape[:2] == (5, 1)


@pytest.mark.parametrize(
    ("box", "widened"),
    [
        ((5, 3, 5, 9), (4.5, 3, 5.5, 9)),
        ((5, 3, 8, 3), (5, 2.5, 8, 3.5)),
        ((0, 0, 0, 0), (-0.5, -0.5, 0.5, 0.5)),
        ((19, 9, 19, 9), (18.5, 8.5, 19.5, 9.5)),
        ((-0.25, 0, -0.25, 9), (-0.5, 0, 0.25, 9)),
        ((19.25, 9.25, 19.25, 9.25), (18.75, 8.75, 19.5, 9.5)),
        ((0, 0, 19, 9), (0, 0, 19, 9)),
    ],
)
def test_boxes_without_area_reach_the_edges_of_their_pixels(
    box: tuple[float, ...], widened: tuple[float, ...]
) -> None:
    boxes = np.array([box, (1, 1, 4, 4)], np.float32)
    found = with_area(boxes, (10, 20))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([widened, (1, 1, 4, 4)], np.float32))


def test_boxes_with_area_are_left_alone() -> None:
    boxes: npt.NDArray[np.float32] = np.array([[1, 2, 3, 4]], np.float32)
    assert with_area(boxes, (10, 20)) is boxes
    assert with_area(np.zeros((0, 4), np.float32), (10, 20)).shape == (0, 4)


def test_a_segmenter_returns_labels(loaded: LoadedModel) -> None:
    labels = AutomaticSegmenter(loaded.model)(np.zeros((60, 90), np.uint8))
    assert labels.shape == (60, 90)
    assert np.issubdtype(labels.dtype, np.integer)
