"""Overlays that anyone can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from sam_plugins.model.inference.overlay import (
    PALETTE,
    draw_overlay,
    inner_boundaries,
    neighbour_colours,
)

GROUND = np.full((40, 60, 3), 100, np.uint8)


def bricks(rows: int, columns: int, size: int = 8) -> npt.NDArray[np.int32]:
    numbers = np.arange(1, rows * columns + 1, dtype=np.int32).reshape(rows, columns)
    return np.kron(numbers, np.ones((size, size), np.int32))


def test_background_stays_as_it_is() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:20, 10:20] = 1
    result = draw_overlay(GROUND, labels)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[labels == 0], 100)
    assert (GROUND == 100).all()


def test_outline_and_light_fill() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:20, 10:20] = 7
    result = draw_overlay(GROUND, labels, fill_opacity=0.25, line_width=1)
    assert tuple(result[10, 15]) == tuple(PALETTE[0])
    expected = np.rint(100 * 0.75 + PALETTE[0] * 0.25)
    np.testing.assert_array_equal(result[15, 15], expected)


def test_outlines_only() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:20, 10:20] = 1
    assert tuple(draw_overlay(GROUND, labels, fill_opacity=0)[15, 15]) == (100, 100, 100)


def test_nothing_to_draw() -> None:
    labels = np.zeros((40, 60), np.uint16)
    np.testing.assert_array_equal(draw_overlay(GROUND, labels, scores=[]), GROUND)
    assert neighbour_colours(labels).shape == (0,)


def test_neighbours_are_not_nearly_alike() -> None:
    lab = rgb2lab(PALETTE[None] / 255)[0]
    differences = deltaE_ciede2000(lab[:, None], lab[None])  # type: ignore[no-untyped-call]
    colours = neighbour_colours(bricks(6, 9)).reshape(6, 9)
    sideways = differences[colours[:, 1:], colours[:, :-1]]
    downwards = differences[colours[1:], colours[:-1]]
    beside = np.concatenate([sideways.ravel(), downwards.ravel()])
    assert (beside < 30).mean() < 0.05
    assert len(np.unique(colours)) == len(PALETTE)


def test_neighbours_differ() -> None:
    labels = bricks(6, 9)
    colours = neighbour_colours(labels).reshape(6, 9)
    assert (colours[1:] != colours[:-1]).all()
    assert (colours[:, 1:] != colours[:, :-1]).all()
    assert (colours[1:, 1:] != colours[:-1, :-1]).all()
    assert (colours[1:, :-1] != colours[:-1, 1:]).all()


def test_objects_a_few_pixels_apart_are_neighbours() -> None:
    labels = bricks(1, 2)
    apart = np.concatenate([labels[:, :8], np.zeros((8, 3), np.int32), labels[:, 8:]], 1)
    first, second = neighbour_colours(apart)
    assert first != second


def test_all_colours_are_used() -> None:
    labels = np.zeros((20, 300), np.int32)
    for i in range(14):
        labels[5:10, 20 * i : 20 * i + 5] = i + 1
    assert set(neighbour_colours(labels)) == set(range(len(PALETTE)))


def test_more_neighbours_than_colours() -> None:
    labels = np.zeros((30, 90), np.int32)
    labels[14:16] = 1
    for i in range(10):
        labels[5:14, 9 * i : 9 * i + 9] = i + 2
    assert neighbour_colours(labels).shape == (11,)


def test_labels_with_gaps() -> None:
    labels = np.zeros((40, 60), np.uint16)
    labels[:10, :10], labels[:10, 10:20] = 60_000, 5
    result = draw_overlay(GROUND, labels)
    assert tuple(result[9, 2]) != tuple(result[9, 15])


def test_boundaries_lie_inside() -> None:
    labels = np.zeros((7, 7), int)
    labels[1:6, 1:6] = 1
    edges = inner_boundaries(labels)
    assert edges.sum() == 16
    assert not edges[2:5, 2:5].any()
    assert inner_boundaries(labels, 2).sum() == 24
    assert not inner_boundaries(np.ones((5, 5), int)).any()


def test_scores_are_written() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[5:35, 5:55] = 1
    labels[0, 0] = 2
    plain = draw_overlay(GROUND, labels)
    scored = draw_overlay(GROUND, labels, scores=[0.87, np.nan])
    changed = np.argwhere((plain != scored).any(2) & (labels == 1))
    assert changed.size
    assert np.abs(changed.mean(0) - (19.5, 29.5)).max() < 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 4)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    result = draw_overlay(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.int32), [0.5])
    assert result.shape == (*shape, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rgb": GROUND[..., 0]}, r"rgb must be of shape \(H, W, 3\) and type uint8, labels of"),
        ({"rgb": GROUND[:5]}, r"got \(5, 60, 3\), uint8 and \(40, 60\)"),
        ({"fill_opacity": 1.5}, "fill_opacity must lie between 0 and 1, got 1.5"),
        ({"line_width": 0}, "width must be 1 or more, got 0"),
        ({"scores": [0.5]}, "scores must have one entry per label, 2, got 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[3:9, 3:9] = 2
    with pytest.raises(ValueError, match=message):
        draw_overlay(**{"rgb": GROUND, "labels": labels, **arguments})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((4, 5)), "labels must be integers, got float64"),
        (np.full((4, 5), -2), "labels must not be negative, got -2"),
    ],
)
def test_what_is_no_label_image_is_refused(labels: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_overlay(np.zeros((4, 5, 3), np.uint8), labels)


def test_labels_may_be_a_list_or_a_mask() -> None:
    rgb = np.zeros((1, 2, 3), np.uint8)
    expected = draw_overlay(rgb, np.array([[0, 1]]))
    np.testing.assert_array_equal(draw_overlay(rgb, [[0, 1]]), expected)  # type: ignore[arg-type]
    np.testing.assert_array_equal(draw_overlay(rgb, np.array([[False, True]])), expected)
