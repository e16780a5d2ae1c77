"""Points that cover a picture evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.model.inference.grid import grid_points


def test_points_stand_in_the_middle_of_equal_parts() -> None:
    points = grid_points((8, 8), 2)
    assert points.tolist() == [[1.5, 1.5], [5.5, 1.5], [1.5, 5.5], [5.5, 5.5]]
    assert points.dtype == np.float32


def test_a_long_picture_gets_fewer_rows() -> None:
    points = grid_points((30, 90), 9)
    assert len(points) == 3 * 9
    assert np.unique(np.diff(np.unique(points[:, 0]))).tolist() == [10]
    assert np.unique(np.diff(np.unique(points[:, 1]))).tolist() == [10]
    assert sorted(map(tuple, grid_points((90, 30), 9)[:, ::-1])) == sorted(map(tuple, points))


def test_no_more_points_than_pixels() -> None:
    assert grid_points((1, 1), 32).tolist() == [[0, 0]]
    assert grid_points((1, 3), 32).tolist() == [[0, 0], [1, 0], [2, 0]]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 40))
@settings(deadline=None)
def test_points_lie_within_and_mirror_onto_themselves(height: int, width: int, side: int) -> None:
    points = grid_points((height, width), side)
    assert 1 <= len(points) <= side**2
    assert (points >= 0).all()
    assert (points <= [width - 1, height - 1]).all()
    mirrored = np.array([width - 1, height - 1]) - points[::-1]
    np.testing.assert_allclose(mirrored, points, atol=1e-3)


def test_a_grid_has_a_point() -> None:
    with pytest.raises(ValueError, match="points_per_side must be 1 or more, got 0"):
        grid_points((8, 8), 0)
