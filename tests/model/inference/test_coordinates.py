"""Coordinates go to the input and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_plugins.model.inference.coordinates import (
    boxes_to_input,
    boxes_to_original,
    points_to_input,
    points_to_original,
)

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
coordinates = st.floats(-10, 5000)


@given(st.tuples(coordinates, coordinates), sizes, sizes)
def test_there_and_back(
    point: tuple[float, float], original: tuple[int, int], resized: tuple[int, int]
) -> None:
    there = points_to_input([point], original, resized)
    np.testing.assert_allclose(
        points_to_original(there, original, resized)[0], point, rtol=1e-5, atol=1e-4
    )


@given(st.tuples(*[coordinates] * 4), sizes, sizes)
def test_boxes_are_two_points(
    box: tuple[float, float, float, float], original: tuple[int, int], resized: tuple[int, int]
) -> None:
    corners = points_to_input(np.reshape(box, (2, 2)), original, resized)
    moved = boxes_to_input(box, original, resized)
    np.testing.assert_array_equal(moved, corners.ravel())
    np.testing.assert_allclose(
        boxes_to_original(moved, original, resized), box, rtol=1e-5, atol=1e-4
    )


def test_x_goes_with_width() -> None:
    assert points_to_input([[3, 5]], (10, 100), (20, 400)).tolist() == [[12, 10]]


def test_shapes_are_kept() -> None:
    assert points_to_input(np.zeros((4, 7, 2)), (10, 10), (20, 20)).shape == (4, 7, 2)
    assert points_to_input(np.zeros((0, 2)), (10, 10), (20, 20)).shape == (0, 2)
    assert points_to_input(np.zeros((1, 2)), (10, 10), (20, 20)).dtype == np.float32


def test_as_the_official_transform() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 3000, (50, 2))
    original, resized = (2999, 1777), (1024, 607)
    official = points.astype(float)
    official[:, 0] *= resized[1] / original[1]
    official[:, 1] *= resized[0] / original[0]
    np.testing.assert_array_equal(
        points_to_input(points, original, resized), official.astype(np.float32)
    )


@pytest.mark.parametrize("values", [1.0, [1, 2, 3]])
def test_wrong_shapes(values: object) -> None:
    with pytest.raises(ValueError, match=r"points_xy must have shape \(\.\.\., 2\), got"):
        points_to_input(values, (1, 1), (1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"boxes_xyxy must have shape \(\.\.\., 4\), got"):
        boxes_to_input(values, (1, 1), (1, 1))  # type: ignore[arg-type]


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"sizes must be positive, got \(0, 5\) and \(1, 1\)"):
        points_to_input([[1, 2]], (0, 5), (1, 1))
