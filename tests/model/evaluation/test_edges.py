"""Edge maps, and the figures of the Berkeley benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam_plugins.model.evaluation import edge_scores
from sam_plugins.model.evaluation.edge_maps import (
    canny_edges,
    label_edges,
    sobel_edges,
    thinned,
)
from sam_plugins.model.evaluation.edge_scores import count_edges
from sam_plugins.model.evaluation.tasks.edges import FLOORS, Edges
from sam_plugins.model.io.labelled import LabelledImage


def square() -> np.ndarray:
    labels = np.zeros((30, 40), np.uint16)
    labels[8:22, 10:28] = 1
    return labels


def test_labels_that_touch_share_one_line() -> None:
    labels = np.ones((6, 8), int)
    labels[:, 4:] = 2
    edges = label_edges(labels)
    assert edges.sum(axis=1).tolist() == [1] * 6
    assert not label_edges(np.ones((6, 8), int)).any()  # the border of the picture is none


def test_a_square_has_a_closed_outline_one_pixel_wide() -> None:
    edges = label_edges(square())
    assert edges.sum() == pytest.approx(2 * (14 + 18), abs=4)
    assert edges[15, [9, 27]].all()
    assert not edges[15, 11:26].any()


@pytest.mark.parametrize("turned", [False, True])
def test_thinning_keeps_the_crest(turned: bool) -> None:
    strength = np.zeros((15, 15), np.float32)
    for offset, value in ((-1, 0.5), (0, 2.0), (1, 0.5)):
        strength[7 + offset] = value
    if turned:
        strength = strength.T
    expected = np.zeros((15, 15), np.float32)
    expected[7] = 1
    assert np.array_equal(thinned(strength), expected.T if turned else expected)


def test_thinning_of_a_slanted_ridge_follows_it() -> None:
    rows, columns = np.mgrid[:40, :40]
    away = np.abs(rows - columns) / np.sqrt(2)
    lines = thinned(np.exp(-(away**2) / 4).astype(np.float32)) > 0.1
    assert (np.abs(rows - columns)[lines] <= 1).all()
    assert all(lines[i, i] for i in range(2, 38))


@pytest.mark.parametrize("detect", [sobel_edges, canny_edges])
def test_detectors_find_a_square(detect: Callable[[np.ndarray], np.ndarray]) -> None:
    labels = np.kron(square(), np.ones((4, 4), np.uint16))  # a tolerance of 1.5 pixels
    picture = np.where(labels > 0, 200, 50).astype(np.uint8)
    strength = detect(picture)
    assert strength.shape == picture.shape
    assert strength.dtype == np.float32
    assert strength.max() == pytest.approx(150 / 255, abs=0.06)
    counts = count_edges(strength, [label_edges(labels)], thresholds=9)
    f, _ = edge_scores.best_f(counts.table)
    assert f > 0.95
    assert detect(np.full((20, 20), 9, np.uint8)).max() == 0


@pytest.mark.parametrize("detect", [sobel_edges, canny_edges])
def test_the_strength_of_a_detector_is_the_height_of_the_step(
    detect: Callable[[np.ndarray], np.ndarray],
) -> None:
    picture = np.zeros((60, 160), np.uint8)
    picture[:, 40:80], picture[:, 80:120], picture[:, 120:] = 255, 153, 255
    strength = detect(picture)[30]
    assert strength[35:45].max() == pytest.approx(1, abs=0.1)
    assert strength[75:85].max() == pytest.approx(0.4, abs=0.05)


def test_counts_at_thresholds() -> None:
    strength = np.zeros((20, 30), np.float32)
    strength[5, 5:25], strength[12, 5:15] = 0.9, 0.4  # right, and false
    drawn = np.zeros((20, 30), bool)
    drawn[5, 5:25] = True
    counts = count_edges(strength, [drawn], thresholds=3)
    assert counts.thresholds.tolist() == [0.25, 0.5, 0.75]
    assert counts.table.tolist() == [[20, 20, 20, 30], [20, 20, 20, 20], [20, 20, 20, 20]]


def test_several_annotators() -> None:
    strength = np.zeros((20, 30), np.float32)
    strength[5, 5:25] = 1
    first, second = np.zeros((2, 20, 30), bool)
    first[5, 5:15] = True  # half of it, each
    second[5, 15:25] = True
    counts = count_edges(strength, [first, second], thresholds=1)
    # Everything found was drawn by somebody, everything drawn was found.
    assert counts.table.tolist() == [[20, 20, 20, 20]]
    empty = count_edges(strength, [first, np.zeros_like(first)], thresholds=1)
    assert empty.table[0, 2] == pytest.approx(10, abs=1)


def test_ignored_pixels_do_not_count() -> None:
    strength = np.zeros((20, 30), np.float32)
    strength[5, 5:25] = 1
    drawn = np.zeros((20, 30), bool)
    drawn[5, 5:15] = True
    counted = np.ones((20, 30), bool)
    counted[:, 15:] = False
    counts = count_edges(strength, [drawn], thresholds=1, counted=counted)
    assert counts.table.tolist() == [[10, 10, 10, 10]]


@pytest.mark.parametrize(
    ("strength", "drawings", "thresholds", "message"),
    [
        (np.zeros((2, 2)), [], 3, "drawings must hold the edges of one annotator or more"),
        (np.zeros((2, 2)), [np.zeros((2, 2), bool)], 0, "thresholds must be 1 or more, got 0"),
        (np.full((2, 2), 2.0), [np.zeros((2, 2), bool)], 3, r"must lie in \[0, 1\], got 2 to 2"),
    ],
)
def test_wrong_counts(
    strength: np.ndarray, drawings: list[np.ndarray], thresholds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        count_edges(strength, drawings, thresholds=thresholds)


def counts_of(*pairs: tuple[float, float]) -> np.ndarray:
    """Counts of 100 drawn pixels with a given precision and recall."""
    return np.array([[100 * r, 100, 100 * r, 100 * r / p] for p, r in pairs])


def test_best_f_lies_between_thresholds() -> None:
    table = counts_of((0.5, 1.0), (1.0, 0.5))
    f, place = edge_scores.best_f(table)
    assert (f, place) == (pytest.approx(0.75), pytest.approx(0.5))  # of precision = recall = 0.75
    assert edge_scores.best_f(np.zeros((3, 4)))[0] == 0


def test_one_threshold_for_all_is_no_better_than_one_for_each() -> None:
    bright, dim = counts_of((0.2, 1.0), (1.0, 1.0)), counts_of((1.0, 1.0), (1.0, 0.1))
    both = np.stack([bright, dim])
    assert edge_scores.ois(both) == pytest.approx(1)
    assert edge_scores.ods(both) < 0.9


def test_area_under_precision_and_recall() -> None:
    perfect = counts_of((1.0, 1.0), (1.0, 0.5), (1.0, 0.001))
    assert edge_scores.average_precision(perfect) == pytest.approx(1.0, abs=0.011)
    # Precision 0.8 at every recall up to a half, beyond which no threshold reaches.
    half = counts_of((0.8, 0.5), (0.8, 0.001))
    assert edge_scores.average_precision(half) == pytest.approx(0.4, abs=0.01)


def test_recall_at_half_precision() -> None:
    assert edge_scores.recall_at_half(counts_of((0.4, 0.8), (0.6, 0.4))) == pytest.approx(0.6)
    assert edge_scores.recall_at_half(counts_of((0.7, 0.9), (0.8, 0.4))) == pytest.approx(0.9)
    assert edge_scores.recall_at_half(counts_of((0.2, 0.9), (0.3, 0.4))) == 0
    assert edge_scores.recall_at_half(np.zeros((3, 4))) == 0


def test_the_task_knows_a_perfect_detector(image_of: Callable[..., LabelledImage]) -> None:
    image = image_of(square())
    truth = label_edges(square()).astype(np.float32)
    task = Edges(lambda _: truth, thresholds=9)
    measured = task.measure(image)
    assert measured.value == 1
    panels = measured.draw()
    assert [caption for caption, _ in panels][:3] == ["picture", "drawn by people", "model"]
    assert all(picture.shape == (30, 40, 3) for _, picture in panels)
    concluded = task.conclude(measured.scores, seed=0)
    assert set(concluded.summaries) == {"model", *FLOORS}
    figures = concluded.summaries["model"].sets["s"]
    # A detector without grades has a single recall, and that no area: so in the benchmark.
    means = {name: one.mean for name, one in figures.items()}
    assert means == {"ods": 1, "ois": 1, "ap": pytest.approx(0.01), "r50": 1}
    assert np.isnan(figures["ods"].low)  # a single picture says nothing about others
    assert concluded.pictures[0]["best_f"] == 1


def test_one_wrong_annotator_lowers_recall_only(image_of: Callable[..., LabelledImage]) -> None:
    truth: Any = label_edges(square()).astype(np.float32)
    other = np.zeros((30, 40), np.uint16)
    other[2:5, 2:5] = 1
    task = Edges(lambda _: truth, thresholds=3)
    row = task.conclude(
        task.measure(image_of(square(), other_labels=(other,))).scores, seed=0
    ).pictures[0]
    assert row["precision"] == 1
    assert 0.5 < row["recall"] < 1
