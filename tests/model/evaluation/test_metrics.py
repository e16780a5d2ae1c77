"""Metrics against small literals, brute force, and COCO's own code."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.evaluation.metrics import (
    MSA_THRESHOLDS,
    average_precisions,
    mask_dice,
    mask_iou,
    match_objects,
    mean_segmentation_accuracy,
    panoptic_quality,
    split_merge_errors,
)
from sam_plugins.model.evaluation.overlaps import overlap_table

LABELS = hnp.arrays(np.int64, st.just((6, 7)), elements=st.integers(0, 5))
IGNORE = hnp.arrays(np.bool_, st.just((6, 7)))


def brute_ious(
    true: np.ndarray, predicted: np.ndarray, ignore: np.ndarray | None = None
) -> np.ndarray:
    counted = np.ones(true.shape, bool) if ignore is None else ~ignore
    true, predicted = np.where(counted, true, 0), np.where(counted, predicted, 0)
    true_ids, predicted_ids = np.unique(true[true > 0]), np.unique(predicted[predicted > 0])
    return np.array(
        [
            [
                np.sum((true == a) & (predicted == b)) / np.sum((true == a) | (predicted == b))
                for b in predicted_ids
            ]
            for a in true_ids
        ]
    ).reshape(true_ids.size, predicted_ids.size)


def brute_best_matching(ious: np.ndarray, threshold: float) -> tuple[int, float]:
    """Most pairs, then most IoU, over every way to pair."""
    n, m = ious.shape
    if n > m:
        ious, n, m = ious.T, m, n
    best = (0, 0.0)
    for columns in itertools.permutations(range(m), n):
        values = ious[np.arange(n), list(columns)]
        values = values[values >= threshold - 1e-12]
        best = max(best, (len(values), float(values.sum())))
    return best


# --- masks


def test_iou_and_dice_of_masks() -> None:
    first, second = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert mask_iou(first, second) == pytest.approx(1 / 3)
    assert mask_dice(first, second) == pytest.approx(1 / 2)
    assert mask_iou(first, second, ignore=np.array([1, 0, 0, 0], bool)) == pytest.approx(1 / 2)
    empty = np.zeros(4, bool)
    assert mask_iou(empty, empty) == mask_dice(empty, empty) == 1.0
    assert mask_iou(first, empty) == mask_dice(first, empty) == 0.0


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"first and second must have the same shape, got \(2,\)"):
        mask_iou(np.zeros(2, bool), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"first and ignore must have the same shape"):
        mask_dice(np.zeros(2, bool), np.zeros(2, bool), ignore=np.zeros(3, bool))


# --- the table


@given(LABELS, LABELS, st.none() | IGNORE)
def test_table_agrees_with_brute_force(
    true: np.ndarray, predicted: np.ndarray, ignore: np.ndarray | None
) -> None:
    table = overlap_table(true, predicted, ignore=ignore)
    np.testing.assert_allclose(table.iou_matrix(), brute_ious(true, predicted, ignore))
    counted = np.ones(true.shape, bool) if ignore is None else ~ignore
    for ids, areas, labels in (
        (table.true_ids, table.true_areas, true),
        (table.predicted_ids, table.predicted_areas, predicted),
    ):
        assert areas.tolist() == [np.sum((labels == i) & counted) for i in ids]
    assert table.predicted_ignored.tolist() == [
        np.sum((predicted == i) & ~counted) for i in table.predicted_ids
    ]


@given(LABELS, LABELS)
def test_table_is_symmetric(true: np.ndarray, predicted: np.ndarray) -> None:
    forth, back = overlap_table(true, predicted), overlap_table(predicted, true)
    np.testing.assert_array_equal(forth.iou_matrix(), back.iou_matrix().T)


def test_table_agrees_with_coco() -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    true = np.kron(rng.integers(0, 9, (6, 5)), np.ones((4, 4), int))
    predicted = np.roll(true, (1, 2), axis=(0, 1))

    def encoded(labels: np.ndarray) -> list[dict[str, Any]]:
        masks = [labels == i for i in np.unique(labels[labels > 0])]
        return [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]

    expected = coco.iou(encoded(true), encoded(predicted), [0] * len(encoded(predicted)))
    np.testing.assert_allclose(overlap_table(true, predicted).iou_matrix(), expected)


def test_huge_ids_and_every_integer_type() -> None:
    small = np.array([[0, 1, 1], [2, 2, 0]])
    expected = overlap_table(small, small).iou_matrix()
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        table = overlap_table(small.astype(dtype), small)
        np.testing.assert_array_equal(table.iou_matrix(), expected)
    huge = small * 2_000_000_000
    table = overlap_table(huge, small)
    assert table.true_ids.tolist() == [2_000_000_000, 4_000_000_000]
    np.testing.assert_array_equal(table.iou_matrix(), expected)
    full = np.array([[3_000_000_000, 3_000_000_000, 7]])  # no background at all
    np.testing.assert_array_equal(overlap_table(full, full).iou_matrix(), np.eye(2))


def test_labels_that_are_no_labels_are_refused() -> None:
    good = np.zeros((2, 2), int)
    with pytest.raises(TypeError, match=r"labels_true must hold integers, got float64"):
        overlap_table(good.astype(float), good)
    with pytest.raises(ValueError, match=r"labels_predicted must not be negative .*, got -1"):
        overlap_table(good, good - 1)
    with pytest.raises(ValueError, match=r"same shape, got \(2, 2\) and \(1, 2\)"):
        overlap_table(good, good[:1])
    with pytest.raises(ValueError, match=r"labels_true and ignore must have the same shape"):
        overlap_table(good, good, ignore=np.zeros(4, bool))


def test_five_thousand_objects_take_a_moment() -> None:
    side = 71
    true = np.kron(np.arange(1, side * side + 1).reshape(side, side), np.ones((14, 14), int))
    predicted = np.roll(true, 2, axis=1)
    start = time.perf_counter()
    value = mean_segmentation_accuracy(true, predicted)
    assert time.perf_counter() - start < 5  # about 0.1 s; generous for a busy machine
    assert value == pytest.approx(0.6)  # every object has IoU 12 / 16


# --- matching


@settings(max_examples=60)
@given(LABELS, LABELS, st.sampled_from([0.1, 0.25, 0.5, 0.55, 0.75]))
def test_matching_is_the_best_there_is(
    true: np.ndarray, predicted: np.ndarray, threshold: float
) -> None:
    found = match_objects(overlap_table(true, predicted), threshold)
    pairs, total = brute_best_matching(brute_ious(true, predicted), threshold)
    assert found.true_positives == pairs
    assert found.ious.sum() == pytest.approx(total)
    assert len(set(found.rows.tolist())) == len(set(found.columns.tolist())) == pairs


def test_two_halves_at_exactly_half_match_once() -> None:
    table = overlap_table(np.array([[1, 1]]), np.array([[1, 2]]))
    assert match_objects(table, 0.5).true_positives == 1
    assert match_objects(table, 0.5, strict=True).true_positives == 0
    assert match_objects(table, 0.51).true_positives == 0


def test_rounding_in_a_threshold_loses_no_match() -> None:
    table = overlap_table(np.array([[1] * 5]), np.array([[1] * 3 + [0] * 2]))  # IoU 3 / 5
    assert match_objects(table, 0.1 + 0.5 + 1e-16).true_positives == 1
    assert match_objects(table, np.arange(0.5, 1, 0.05)[2]).true_positives == 1


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, float("nan")])
def test_thresholds_that_are_no_iou_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"threshold must be an IoU in \(0, 1\], got"):
        match_objects(overlap_table(np.eye(2, dtype=int), np.eye(2, dtype=int)), threshold)


# --- AP, mSA, PQ


def test_average_precision_by_hand() -> None:
    true = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]])
    predicted = np.array([[1, 1, 1, 0, 0, 3, 3, 3, 3, 4]])  # IoU 3/4 and 1, one too many
    values = average_precisions(overlap_table(true, predicted))
    np.testing.assert_allclose(values, [2 / 3] * 6 + [1 / 4] * 4)
    assert mean_segmentation_accuracy(true, predicted) == pytest.approx((6 * 2 / 3 + 4 / 4) / 10)
    incomplete = average_precisions(overlap_table(true, predicted), complete=False)
    np.testing.assert_allclose(incomplete, [1] * 6 + [1 / 2] * 4)
    assert MSA_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@given(LABELS)
def test_identity_is_perfect(labels: np.ndarray) -> None:
    table = overlap_table(labels, labels)
    assert (average_precisions(table) == 1).all()
    assert panoptic_quality(table).pq == 1
    assert split_merge_errors(table).splits == split_merge_errors(table).merges == 0


@example(
    np.ones((2, 3), np.int64),
    np.array([[1, 2, 2], [2, 2, 2]]),
    np.array([[False, False, True], [True, True, True]]),
    [2, 1, 3, 4, 5],
)
@given(LABELS, LABELS, st.none() | IGNORE, st.permutations(range(1, 6)))
def test_the_numbers_of_the_objects_do_not_matter(
    true: np.ndarray, predicted: np.ndarray, ignore: np.ndarray | None, order: list[int]
) -> None:
    renumber = np.array([0, *order])
    first = overlap_table(true, predicted, ignore=ignore)
    second = overlap_table(true, renumber[predicted] * 10, ignore=ignore)
    np.testing.assert_allclose(average_precisions(first), average_precisions(second))
    assert panoptic_quality(first).pq == pytest.approx(panoptic_quality(second).pq)
    assert split_merge_errors(first) == split_merge_errors(second)


@given(LABELS, LABELS)
def test_without_ignored_pixels_the_sides_may_be_exchanged(
    true: np.ndarray, predicted: np.ndarray
) -> None:
    forth, back = overlap_table(true, predicted), overlap_table(predicted, true)
    np.testing.assert_allclose(average_precisions(forth), average_precisions(back))
    assert panoptic_quality(forth).pq == pytest.approx(panoptic_quality(back).pq)
    assert split_merge_errors(forth).splits == split_merge_errors(back).merges


@given(LABELS, LABELS)
def test_more_is_asked_at_higher_thresholds(true: np.ndarray, predicted: np.ndarray) -> None:
    values = average_precisions(overlap_table(true, predicted))
    assert (np.diff(values) <= 1e-12).all()
    assert (values >= 0).all()
    assert (values <= 1).all()


def test_nothing_to_find() -> None:
    empty, one = np.zeros((3, 3), int), np.eye(3, dtype=int)
    assert mean_segmentation_accuracy(empty, empty) == 1
    assert mean_segmentation_accuracy(empty, one) == 0
    assert mean_segmentation_accuracy(one, empty) == 0
    assert np.isnan(mean_segmentation_accuracy(empty, one, complete=False))
    assert panoptic_quality(overlap_table(empty, empty)).pq == 1
    assert panoptic_quality(overlap_table(empty, one)).pq == 0
    assert np.isnan(panoptic_quality(overlap_table(empty, one), complete=False).pq)


def test_predictions_in_the_ignored_region_are_no_false_positives() -> None:
    true = np.array([[1, 1, 0, 0, 0, 0, 0]])
    predicted = np.array([[1, 1, 0, 2, 2, 2, 0]])
    ignore = np.array([[0, 0, 0, 0, 1, 1, 1]], bool)  # two of three pixels of object 2
    assert mean_segmentation_accuracy(true, predicted) == pytest.approx(1 / 2)
    assert mean_segmentation_accuracy(true, predicted, ignore=ignore) == 1
    half = np.array([[0, 0, 0, 0, 0, 1, 1]], bool)  # one of three: it counts
    assert mean_segmentation_accuracy(true, predicted, ignore=half) == pytest.approx(1 / 2)


def test_panoptic_quality_by_hand() -> None:
    true = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
    predicted = np.array([[1, 1, 1, 0, 0, 2, 2, 4, 0]])
    quality = panoptic_quality(overlap_table(true, predicted))  # IoU 3/4 and 1; one FN, one FP
    assert quality.sq == pytest.approx(7 / 8)
    assert quality.rq == pytest.approx(2 / 3)
    assert quality.pq == pytest.approx(7 / 12)
    lenient = panoptic_quality(overlap_table(true, predicted), complete=False)
    assert lenient.rq == pytest.approx(2 / 2.5)


# --- splits and merges


def test_splits_and_merges_by_hand() -> None:
    true = np.array([[1, 1, 1, 1, 1, 1, 0, 2, 2, 3, 3]])
    predicted = np.array([[1, 1, 2, 2, 3, 3, 0, 4, 4, 4, 4]])
    errors = split_merge_errors(overlap_table(true, predicted))
    assert (errors.splits, errors.merges) == (2, 1)


def test_a_few_pixels_across_a_border_are_no_error() -> None:
    true = np.array([[1] * 6 + [2] * 6])
    predicted = np.array([[1] * 7 + [2] * 5])
    errors = split_merge_errors(overlap_table(true, predicted))
    assert (errors.splits, errors.merges) == (0, 0)
