"""Proposals: COCO's matching against COCO's code, and average recall on cases that are known."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam_plugins.model.evaluation.coco_matching import (
    UNMATCHED,
    mask_ious,
    match_in_order,
    outside,
)
from sam_plugins.model.evaluation.metrics import mask_iou
from sam_plugins.model.evaluation.prompts import true_objects
from sam_plugins.model.evaluation.proposals import floor_proposals, score_proposals
from sam_plugins.model.evaluation.tasks.proposals import Proposals
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.io.rle import encode_mask


def windows(labels: np.ndarray) -> list[WindowMask]:
    return [WindowMask(one.window, one.mask) for one in true_objects(labels)]


def whole(mask: np.ndarray) -> WindowMask:
    return WindowMask((slice(0, mask.shape[0]), slice(0, mask.shape[1])), mask)


def test_ious_of_windows_are_those_of_whole_masks(labels: np.ndarray) -> None:
    objects = list(true_objects(labels))
    masks = [np.roll(labels, 3, axis=1) == 1, np.ones_like(labels, bool), labels == 2]
    counted = np.ones(labels.shape, bool)
    counted[:, :15] = False
    for kept in (None, counted):
        ious = mask_ious([whole(mask) for mask in masks], objects, counted=kept)
        ignore = None if kept is None else ~kept
        for row, mask in zip(ious, masks, strict=True):
            expected = [mask_iou(mask, labels == one.object_id, ignore=ignore) for one in objects]
            assert row.tolist() == pytest.approx(expected)


def test_masks_take_objects_in_their_order() -> None:
    ious = np.array([[0.6, 0.0], [0.9, 0.55], [0.95, 0.0]])
    nobody = np.zeros(2, bool)
    at_half, at_eight = match_in_order(ious, nobody, (0.5, 0.8))
    assert at_half.tolist() == [0, 1]  # the first mask took the object that others fit better
    assert at_eight.tolist() == [1, UNMATCHED]


def test_objects_of_another_size_are_taken_last() -> None:
    ious = np.array([[0.9, 0.6]])
    assert match_in_order(ious, np.array([True, False]), (0.5,)).tolist() == [[UNMATCHED, 0]]
    assert match_in_order(ious, np.array([True, True]), (0.5,)).tolist() == [[0, UNMATCHED]]
    areas = np.array([1024, 1025, 9216, 9217])
    assert outside(areas, "small").tolist() == [False, True, True, True]
    assert outside(areas, "medium").tolist() == [False, False, False, True]


def boxes_image(seed: int, count: int = 14) -> np.ndarray:
    """Boxes of many sizes."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((240, 260), np.uint16)
    for number in range(1, count + 1):
        height, width = rng.integers(6, 130, 2)
        y, x = rng.integers(0, 240 - height), rng.integers(0, 260 - width)
        labels[y : y + height, x : x + width] = number
    return labels


def test_average_recall_is_that_of_pycocotools(image_of: Callable[..., LabelledImage]) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    scores = []
    for image in range(1, 4):
        labels = boxes_image(image)
        rng = np.random.default_rng(image)
        shifted = [np.roll(labels, rng.integers(-4, 5, 2), axis=(0, 1)) for _ in range(30)]
        masks = [whole(one == rng.integers(1, 15)) for one in shifted]
        scores += score_proposals(image_of(labels), masks)
        for one in true_objects(labels):
            entry = {"image_id": image, "category_id": 1, "iscrowd": 0, "area": one.area}
            rle = encode_mask(labels == one.object_id)
            number = len(annotations) + 1
            annotations.append(entry | {"segmentation": rle, "id": number, "bbox": [0, 0, 1, 1]})
        for rank, mask in enumerate(masks):
            results.append(
                {
                    "image_id": image, "category_id": 1, "score": 1 - rank / 100,
                    "segmentation": encode_mask(mask.mask), "id": len(results) + 1, "iscrowd": 0,
                    "area": int(mask.mask.sum()), "bbox": [0, 0, 1, 1],
                }
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        true_set, found_set = COCO(), COCO()
        for made, entries in ((true_set, annotations), (found_set, results)):
            made.dataset = {
                "images": [{"id": i, "height": 240, "width": 260} for i in range(1, 4)],
                "annotations": entries,
                "categories": [{"id": 1, "name": "object"}],
            }
            made.createIndex()
        evaluation = COCOeval(true_set, found_set, "segm")
        evaluation.params.maxDets = [10, 100, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    expected = evaluation.eval["recall"][:, 0].mean(axis=0)  # (areas, counts)
    for row, size in enumerate(("all", "small", "medium", "large")):
        for column, count in enumerate((10, 100, 1000)):
            mine = np.nanmean([score.recall(count, size) for score in scores])
            assert mine == pytest.approx(expected[row, column]), (size, count)
    assert 0.05 < expected[0, 0] < expected[0, 1] < 0.95


def test_exact_proposals_find_everything(image_of: Callable[..., LabelledImage]) -> None:
    labels = boxes_image(0)
    scores = score_proposals(image_of(labels), windows(labels))
    assert all(score.recall(100) == 1 for score in scores)
    assert np.mean([score.recall(10) for score in scores]) == pytest.approx(10 / len(scores))
    assert [score.ranks[0] for score in scores] == list(range(1, len(scores) + 1))
    assert score_proposals(image_of(np.zeros((9, 9), int)), []) == []
    nothing = score_proposals(image_of(labels), [])
    assert all(score.best_iou == 0 and score.ranks[0] is None for score in nothing)


def test_covered_objects_are_looked_for_as_wholes(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    mask = np.zeros(labels.shape, bool)
    mask[2:40, 2:30] = True
    image = image_of(labels, whole_masks={1: mask})
    first = score_proposals(image, [whole(labels == 1)])[0]
    assert first.area == mask.sum()
    assert first.best_iou == pytest.approx((labels == 1).sum() / mask.sum())


def test_the_floor_proposes_the_largest_piece_first(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    masks = floor_proposals(image_of(labels).image)
    areas = [int(mask.mask.sum()) for mask in masks]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)


def test_the_task(image_of: Callable[..., LabelledImage]) -> None:
    labels = boxes_image(1)
    task = Proposals(lambda _: windows(labels)[:5])
    measured = task.measure(image_of(labels))
    concluded = task.conclude(measured.scores, seed=0)
    count = len(windows(labels))
    mine = concluded.summaries["model"].sets["s"]
    assert mine["ar1000"].mean == mine["ar10"].mean == pytest.approx(5 / count)
    assert measured.value == pytest.approx(5 / count)
    assert len(measured.draw()) == 3
    by_count, by_iou = concluded.plots
    assert by_count.lines[0].y[-1] == pytest.approx(5 / count)
    assert by_iou.lines[0].y[0] == pytest.approx(5 / count)
    row = concluded.pictures[0]
    assert (row["objects"], row["n_proposals"]) == (count, 5)
    sizes = {size for size in ("small", "medium", "large") if f"ar10_{size}" in row}
    assert sizes == {"small", "medium", "large"}
    assert len(concluded.objects) == 2 * count
