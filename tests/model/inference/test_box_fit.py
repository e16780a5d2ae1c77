"""Masks cut where they fill the box that asked for them."""

from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.inference import predict
from sam_plugins.model.inference.box_fit import LEVELS, levels_that_fit
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.prompts import PADDING, POSITIVE, Prompts

FloatArray = np.ndarray


def hill(radius: float, level: float = 0.0, *, slope: float = 1.0) -> FloatArray:
    """Return logits (1, 48, 64) that fall from (30, 20) and reach a level at a radius."""
    rows, columns = np.mgrid[:48, :64] + 0.5
    distance = np.hypot(columns - 30, rows - 20)
    return ((radius - distance) * slope + level).astype(np.float32)[None]


def box(radius: float, *, shift: float = 0.0) -> FloatArray:
    """Return the box (1, 4) around the hill at a radius, its left side elsewhere by a shift."""
    return np.array([[30 - radius + shift, 20 - radius, 30 + radius, 20 + radius]], np.float32)


@pytest.mark.parametrize("level", [-1.5, -0.75, 0.75, 1.5])
def test_a_mask_that_fits_badly_is_cut_where_its_box_is(level: float) -> None:
    (found,) = levels_that_fit(hill(6, level, slope=0.25), box(6))
    assert found == pytest.approx(level, abs=0.26)


def test_nothing_becomes_the_object_that_the_box_holds() -> None:
    logits = hill(3, -2)
    assert not (logits > 0).sum() > 4
    (found,) = levels_that_fit(logits, box(3))
    assert found == pytest.approx(-2, abs=0.26)


def test_a_mask_that_fits_stays() -> None:
    assert levels_that_fit(hill(11, 0.25), box(11)).tolist() == [0]
    assert levels_that_fit(hill(11), box(11, shift=2)).tolist() == [0]


def test_a_large_mask_that_misses_a_thin_part_stays() -> None:
    """A body with a tail, of which the mask has nothing: lower, it would take in the ground."""
    rows, columns = np.mgrid[:64, :64] + 0.5
    body = (20 - np.hypot(columns - 22, rows - 40)).astype(np.float32)[None] / 10
    asked = np.array([[2, 4, 60, 60]], np.float32)
    assert levels_that_fit(body, asked).tolist() == [0]
    small = body[:, ::4, ::4]
    assert levels_that_fit(small, asked / 4)[0] < 0


def test_a_middling_object_may_leave_its_box_further_than_a_small_one() -> None:
    """A mask whose box has an IoU of 0.75 with the one that asked."""
    share = 0.75**0.5
    assert levels_that_fit(hill(11 * share), box(11)).tolist() == [0]
    assert levels_that_fit(hill(3 * share), box(3))[0] < 0


def test_each_mask_is_looked_at_alone() -> None:
    several = np.concatenate([hill(6, 1.5, slope=0.25), hill(11), hill(3, -2)])
    boxes = np.concatenate([box(6), box(11), box(3)])
    together = levels_that_fit(several, boxes)
    alone = [
        levels_that_fit(one[None], edges[None])[0]
        for one, edges in zip(several, boxes, strict=True)
    ]
    assert together.tolist() == alone
    assert set(alone) <= set(LEVELS.tolist())


def test_a_box_that_the_border_cuts_says_not_where_the_object_ends() -> None:
    logits, edges = hill(8, -3, slope=0.5)[:, :, 27:], box(8)
    assert levels_that_fit(hill(8, -3, slope=0.5), edges)[0] < 0
    assert levels_that_fit(logits, edges - np.array([27, 0, 27, 0], np.float32)).tolist() == [0]


@pytest.mark.parametrize(
    "edges", [[5, 5, 5, 5], [70, 60, 90, 80], [8, 8, 4, 4], [-9, -9, 200, 200]]
)
def test_a_box_of_nothing_beyond_the_picture_or_the_wrong_way_round_breaks_nothing(
    edges: list[int],
) -> None:
    found = levels_that_fit(hill(3), np.array([edges], np.float32))
    assert np.isfinite(found).all()
    assert levels_that_fit(np.full((1, 4, 4), -np.inf, np.float32), box(1)).tolist() == [0]


def test_what_the_shipped_model_hardly_sees_is_found_by_its_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dim dots, beside a bright spot that it sees well."""
    rows, columns = np.mgrid[:64, :96]
    spots = [(30, 20, 1.5, 14), (10, 50, 1, 40), (50, 40, 7, 120)]
    truth = [np.hypot(columns - x, rows - y) <= radius for x, y, radius, _ in spots]
    picture = np.random.default_rng(5).normal(60, 8, (64, 96))
    picture += sum(spot[3] * mask for spot, mask in zip(spots, truth, strict=True))
    prompts = Prompts(boxes_xyxy=[[x - r, y - r, x + r, y + r] for x, y, r, _ in spots])
    model = load_model("default", device="cpu")
    embedding = encode_image(model, picture)
    fitted = predict_masks(model, embedding, prompts)
    monkeypatch.setattr(predict, "levels_that_fit", lambda logits, _: np.zeros(len(logits)))
    seen = predict_masks(model, embedding, prompts)
    moved = fitted.low_res_logits - seen.low_res_logits
    assert np.ptp(moved, axis=(1, 2, 3)).max() < 1e-3  # Each mask as a whole, or not at all.
    assert (moved.max(axis=(1, 2, 3)) > 0).tolist() == [True, True, False]
    assert np.array_equal(fitted.iou_predictions, seen.iou_predictions)

    def ious(masks: np.ndarray) -> np.ndarray:
        return np.array([(m & t).sum() / (m | t).sum() for m, t in zip(masks, truth, strict=True)])

    before, after = ious(seen.masks[:, 0]), ious(fitted.masks[:, 0])
    assert (after[:2] > before[:2] + 0.1).all()
    assert after[2] == before[2] > 0.9


def test_only_a_box_alone_is_fitted_also_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((48, 64), np.uint8)
    picture[30:33, 50:53] = 9
    model = load_model("default", device="cpu")
    embedding = encode_image(model, picture)
    boxes = [[49, 29, 53, 33], [10, 8, 30, 40]]
    points, labels = [[[0, 0]], [[20, 20]]], [[PADDING], [POSITIVE]]
    mixed = Prompts(points_xy=points, point_labels=labels, boxes_xyxy=boxes)
    assert mixed.is_box_alone.tolist() == [True, False]
    monkeypatch.setattr(predict, "levels_that_fit", lambda logits, _: np.full(len(logits), 9.0))
    fitted = predict_masks(model, embedding, mixed)
    as_it_is = predict_masks(model, embedding, mixed, fits_boxes=False)
    moved = as_it_is.low_res_logits - fitted.low_res_logits
    assert moved.mean(axis=(1, 2, 3)) == pytest.approx([9, 0], abs=1e-4)
    one_by_one = predict_masks(model, embedding, mixed, chunk_size=1)
    assert np.allclose(one_by_one.low_res_logits, fitted.low_res_logits, atol=1e-3)


def test_what_is_a_box_alone() -> None:
    boxes, points = [[10, 8, 30, 40]], [[[20, 20]]]
    assert Prompts(boxes_xyxy=boxes).is_box_alone.tolist() == [True]
    assert not Prompts(points_xy=points, point_labels=[[1]]).is_box_alone.any()
    both = Prompts(boxes_xyxy=boxes, points_xy=points, point_labels=[[1]])
    assert not both.is_box_alone.any()
    logits = np.zeros((1, 1, 16, 16), np.float32)
    assert not Prompts(boxes_xyxy=boxes, mask_logits=logits).is_box_alone.any()
