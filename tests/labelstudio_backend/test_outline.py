"""Masks to outlines and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.labelstudio_backend.payloads import disk, iou

from sam_plugins.labelstudio_backend.context import PixelAsk
from sam_plugins.labelstudio_backend.outline import box_of, ellipse_of, polygons_of
from sam_plugins.labelstudio_backend.refining import cut
from sam_plugins.model.io.outlines import fill_ellipse, fill_polygons

SIZE = (60, 90)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=150, deadline=None)
def test_outlines_without_tolerance_are_the_mask_whatever_it_is(mask: np.ndarray) -> None:
    drawn = fill_polygons(polygons_of(mask, tolerance=0, min_area=0), mask.shape)
    np.testing.assert_array_equal(drawn, mask)


def test_a_hole_stays_a_hole_within_the_tolerance() -> None:
    ring = disk(SIZE, (45, 30), 25) & ~disk(SIZE, (40, 28), 8)
    polygons = polygons_of(ring, tolerance=1)
    assert len(polygons) == 1
    drawn = fill_polygons(polygons, SIZE)
    assert iou(drawn, ring) > 0.94
    assert not drawn[28, 40]
    assert len(polygons[0]) < 60


def test_small_parts_and_holes_are_left_out_but_never_everything() -> None:
    mask = disk(SIZE, (30, 30), 20)
    mask[5, 80] = True
    mask[30, 30] = False
    assert len(polygons_of(mask, min_area=16)) == 1
    assert fill_polygons(polygons_of(mask, min_area=16), SIZE)[30, 30]
    alone = np.zeros(SIZE, bool)
    alone[5, 80] = True
    assert len(polygons_of(alone, min_area=16)) == 1
    assert polygons_of(np.zeros(SIZE, bool)) == []


def test_the_largest_part_comes_first() -> None:
    mask = disk(SIZE, (15, 15), 6) | disk(SIZE, (60, 30), 20)
    first, second = polygons_of(mask)
    assert np.ptp(first[:, 0]) > np.ptp(second[:, 0])


@pytest.mark.parametrize("degrees", [0, 30, 100])
def test_an_ellipse_is_found_again(degrees: float) -> None:
    mask = fill_ellipse((45, 30), (24, 10), SIZE, degrees)
    found = ellipse_of(mask)
    assert iou(fill_ellipse(found.centre_xy, found.radii_xy, SIZE, found.degrees), mask) > 0.96


def test_a_box_reaches_from_edge_to_edge() -> None:
    mask = np.zeros(SIZE, bool)
    mask[2:4, 5:9] = True
    assert box_of(mask) == (5, 2, 9, 4)
    with pytest.raises(ValueError, match="must not be empty"):
        box_of(np.zeros(SIZE, bool))
    with pytest.raises(ValueError, match="must not be empty"):
        ellipse_of(np.zeros(SIZE, bool))


SHIFT = np.array([200, 300])


def test_a_mask_far_off_in_a_large_picture_has_the_same_outline_and_cut() -> None:
    small = disk((50, 60), (30, 25), 20) & ~disk((50, 60), (35, 22), 7)
    large = np.zeros((400, 500), bool)
    large[300:350, 200:260] = small
    for tolerance in (0.0, 1.0):
        (near,), (far,) = (polygons_of(one, tolerance=tolerance) for one in (small, large))
        assert np.array_equal(near + SHIFT, far)
    points = np.array([[20.0, 25.0], [45.0, 20.0], [30.0, 40.0]])
    labels = np.array([1, 0, 0])
    wanted = cut(small, PixelAsk(points, labels))
    found = cut(large, PixelAsk(points + SHIFT, labels))
    y, x = np.indices(small.shape)
    squares = [(x - px) ** 2 + (y - py) ** 2 for px, py in points]
    assert np.array_equal(wanted, small & (squares[0] < np.minimum(squares[1], squares[2])))
    assert np.array_equal(found[300:350, 200:260], wanted)
    assert found.sum() == wanted.sum()
    assert not cut(np.zeros((4, 5), bool), PixelAsk(points, labels)).any()
