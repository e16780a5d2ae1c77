"""Automatic segmentation and its floor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam_plugins.model.evaluation.automatic import (
    FLOOR_NAME,
    evaluate_automatic,
    otsu_watershed,
    score_picture,
)
from sam_plugins.model.io.labelled import LabelledImage, list_manifest_files, read_each


def test_the_floor_finds_separate_and_touching_discs(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    found = otsu_watershed(image_of(labels).image)
    assert found.dtype == np.int32
    assert score_picture(image_of(labels), found).ap50 == 1
    rows, columns = np.mgrid[:40, :70]
    touching = (np.hypot(rows - 20, columns - 22) < 14) | (np.hypot(rows - 20, columns - 46) < 14)
    assert otsu_watershed(touching * np.uint8(200)).max() == 2


def test_the_floor_takes_dark_objects_colours_and_nothing(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    dark = 255 - image_of(labels).image
    colour = np.stack([dark, dark // 2, dark], axis=2)
    for picture in (dark, colour, dark.astype(np.uint16) * 100):
        assert score_picture(image_of(labels), otsu_watershed(picture)).ap50 == 1
    assert otsu_watershed(np.full((48, 64), 7, np.uint8)).max() == 0


def test_crumbs_are_dropped(image_of: Callable[..., LabelledImage], labels: np.ndarray) -> None:
    picture = image_of(labels).image.copy()
    picture[2, 2] = 250
    assert np.unique(otsu_watershed(picture)).tolist() == [0, 1, 2, 3]


def test_every_method_is_scored_on_every_picture(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    scores = list(
        evaluate_automatic(
            {"truth": lambda _: labels, "nothing": np.zeros_like, FLOOR_NAME: otsu_watershed},
            [image_of(labels), image_of(labels, complete=False)],
        )
    )
    assert [score.method for score in scores] == ["truth", "nothing", FLOOR_NAME] * 2
    truth, nothing = scores[:2]
    assert truth.msa == truth.ap50 == truth.ap75 == truth.pq == truth.dice == 1
    assert (truth.n_true, truth.n_predicted, truth.splits, truth.merges) == (3, 3, 0, 0)
    assert nothing.msa == nothing.pq == nothing.dice == 0
    assert truth.seconds >= 0
    assert np.isnan(scores[3].dice)  # not complete: foreground is not known


def test_false_positives_count_only_where_the_annotation_is_complete(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    part = np.where(labels == 1, labels, 0)
    assert score_picture(image_of(part), labels).msa == pytest.approx(1 / 3)
    assert score_picture(image_of(part, complete=False), labels).msa == 1


def test_a_method_that_returns_another_size_is_named(
    image_of: Callable[..., LabelledImage], labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"small must return .* \(48, 64\) for s/x, got \(2, 2\)"):
        list(evaluate_automatic({"small": lambda _: np.zeros((2, 2), int)}, [image_of(labels)]))


def test_the_floor_on_nuclei_is_what_it_was(test_data: Path) -> None:
    files = list_manifest_files(test_data, ["dsb2018"])[::10]
    scores = list(evaluate_automatic({FLOOR_NAME: otsu_watershed}, read_each(files)))
    assert np.mean([score.msa for score in scores]) > 0.35
