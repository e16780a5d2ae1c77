"""Masks of a grid with a small model of random weights: all of the path, and no duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.evaluation.edge_maps import model_edges
from sam_plugins.model.evaluation.mask_grid import grid_masks, square_grid
from sam_plugins.model.evaluation.metrics import mask_iou
from sam_plugins.model.evaluation.proposals import GridProposer
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.types import Prompts

SIZE_HW = (60, 90)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(TINY_PYRAMID, "tiny")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def whole(mask: WindowMask) -> np.ndarray:
    drawn = np.zeros(SIZE_HW, bool)
    drawn[mask.window] = mask.mask
    return drawn


def test_masks_are_those_of_the_points_without_duplicates(
    model: Model, picture: np.ndarray
) -> None:
    embedding = encode_image(model, picture)
    found = grid_masks(model, embedding, 4, max_iou=0.7)
    assert 1 < len(found) < 48
    assert (np.diff(found.scores) <= 0).all()
    points = Prompts.single_points(square_grid(SIZE_HW, 4))
    all_masks = predict_masks(model, embedding, points, multimask=True).masks.reshape(48, *SIZE_HW)
    drawn = [whole(mask) for mask in found.draw()]
    for mask in drawn:
        # Half precision may move a pixel that lies on the threshold.
        assert max(mask_iou(mask, one) for one in all_masks) > 0.99
    ious = [mask_iou(one, other) for place, one in enumerate(drawn) for other in drawn[:place]]
    assert max(ious) < 0.75  # compared at low resolution


def test_masks_that_the_model_doubts_are_left_out(model: Model, picture: np.ndarray) -> None:
    embedding = encode_image(model, picture)
    points = Prompts.single_points(square_grid(SIZE_HW, 4))
    predicted = predict_masks(model, embedding, points, multimask=True).iou_predictions.ravel()
    limit = float(np.sort(predicted)[-3])  # three are as good
    found = grid_masks(model, embedding, 4, max_iou=1.0, min_predicted_iou=limit)
    assert len(found) == 3
    nothing = grid_masks(model, embedding, 4, max_iou=1.0, min_predicted_iou=2.0)
    assert len(nothing) == 0
    assert not model_edges(model, picture, points_per_side=3, min_predicted_iou=2.0).any()


def test_proposals_come_best_first(model: Model, picture: np.ndarray) -> None:
    masks = GridProposer(model, 3)(picture)
    expected = grid_masks(model, encode_image(model, picture), 3, max_iou=0.9)
    assert len(masks) == len(expected)
    assert np.array_equal(whole(masks[0]), whole(next(expected.draw())))


def test_edges_of_a_model_lie_on_the_borders_of_its_masks(
    model: Model, picture: np.ndarray
) -> None:
    strength = model_edges(model, picture, points_per_side=3, min_predicted_iou=0.0)
    assert strength.shape == SIZE_HW
    assert strength.dtype == np.float32
    assert 0 <= strength.min() < strength.max() == 1
    masks = grid_masks(model, encode_image(model, picture), 3, max_iou=0.7)
    near = np.zeros(SIZE_HW, bool)
    for mask in masks.draw():
        padded = np.pad(whole(mask), 1, mode="edge")
        views = [
            padded[1 + dy : 61 + dy, 1 + dx : 91 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
        ]
        near |= np.logical_or.reduce(views) != np.logical_and.reduce(views)
    assert 0 < (strength > 0).sum() < near.sum()
    # Smoothing leaves faint traces beside them.
    assert (strength[~near] == 0).mean() > 0.95
    assert strength[~near].sum() < 0.02 * strength.sum()
