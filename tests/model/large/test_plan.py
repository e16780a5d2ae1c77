"""Tiles: cores divide a picture, windows hold them with their halo, and are of one size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.model.large.plan import TilePlan, shared, size_of, within


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(5, 90),
    st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_cores_divide_the_picture_and_windows_hold_them(
    size_hw: tuple[int, int], tile: int, halo: int
) -> None:
    halo = min(halo, (tile - 1) // 2)
    plan = TilePlan(size_hw, tile, halo)
    times = np.zeros(size_hw, int)
    for one in plan:
        times[one.core] += 1
        assert shared(one.core, one.window) == one.core
        assert one.window_hw == tuple(min(tile, length) for length in size_hw)
        for core, window, length in zip(one.core, one.window, size_hw, strict=True):
            assert window.start <= max(0, core.start - halo)
            assert window.stop >= min(length, core.stop + halo)
    assert (times == 1).all()


@pytest.mark.parametrize(
    ("length", "number"), [(1, 1), (40, 1), (41, 2), (56, 2), (57, 3), (80, 3), (81, 4)]
)
def test_no_tile_shows_what_the_one_before_it_shows_whole(length: int, number: int) -> None:
    plan = TilePlan((length, 40), tile=40, halo=8)
    assert plan.grid == (number, 1)
    assert all(one.core[0].start % plan.core == 0 for one in plan)  # whole chunks
    assert plan[number - 1].core[0].stop == length


def test_neighbours_are_those_whose_windows_overlap_and_each_pair_comes_once() -> None:
    plan = TilePlan((100, 130), tile=40, halo=8)
    for one in plan:
        expected = [other.index for other in plan if shared(one.window, other.window)]
        assert plan.touching(one.window) == expected
        assert plan.later_neighbours(one.index) == [i for i in expected if i > one.index]


def test_a_part_is_found_within_its_window() -> None:
    picture = np.arange(200).reshape(10, 20)
    window, part = (slice(2, 8), slice(5, 15)), (slice(3, 5), slice(9, 12))
    assert (picture[window][within(part, window)] == picture[part]).all()
    assert size_of(part) == (2, 3)


def test_a_halo_without_core_is_refused() -> None:
    with pytest.raises(ValueError, match=r"less than half of the tile of 20 pixels, got 10"):
        TilePlan((50, 50), 20, 10)


def test_a_tile_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError, match=r"tile must be 0 to 3, got 4"):
        _ = TilePlan((50, 50), 40, 5)[4]


def test_near_a_tile_is_its_core_and_a_quarter_of_the_halo_where_the_picture_goes_on() -> None:
    plan = TilePlan((100, 250), tile=100, halo=20)
    assert plan.near(plan[0]) == (slice(0, 100), slice(0, 65))
    assert plan.near(plan[1]) == (slice(0, 100), slice(55, 125))
    near = [plan.near(tile)[1] for tile in plan]
    assert all(left.stop > right.start for left, right in itertools.pairwise(near))
