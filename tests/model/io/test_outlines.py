"""Outlines to masks, against each pixel's centre and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sam_plugins.model.io.outlines import fill_ellipse, fill_polygons, turned_rectangle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""pycocotools with NumPy 2."""

SIZE_HW = (17, 23)
numbers = st.floats(-5, 28, allow_nan=False).map(lambda value: round(value, 2))
polygons = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8)


def is_inside(x: float, y: float, polygon: list[tuple[float, float]]) -> bool:
    """Count the edges that a ray to the left crosses, one by one."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return crossings % 2 == 1


def is_on_outline(x: float, y: float, polygon: list[tuple[float, float]]) -> bool:
    """Whether a place is nearer to an edge than rounding."""
    here = np.array([x, y])
    for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        edge = np.subtract(end, start)
        length = float(edge @ edge)
        along = np.clip((here - start) @ edge / length, 0, 1) if length else 0.0
        if np.linalg.norm(here - start - along * edge) < 1e-9:
            return True
    return False


@given(polygons)
@example([(0.0, 0.0), (0.0, 0.0), (18.31, 18.31)])
@settings(max_examples=60)
def test_a_pixel_is_inside_when_its_centre_is(polygon: list[tuple[float, float]]) -> None:
    rows, columns = SIZE_HW
    found = fill_polygons([polygon], SIZE_HW)
    for y in range(rows):
        for x in range(columns):
            # a centre on an outline may be rounded to either side
            is_right = found[y, x] == is_inside(x + 0.5, y + 0.5, polygon)
            assert is_right or is_on_outline(x + 0.5, y + 0.5, polygon)


@given(polygons, st.integers(2, 20))
def test_two_parts_share_no_pixel_and_leave_none_out(
    polygon: list[tuple[float, float]], cut: int
) -> None:
    """A picture cut by any line of corners is covered once."""
    line = [(x, y) for (x, y) in polygon[:3]]
    left = [(-50, -50), *line, (-50, 80)]
    right = [(80, -50), (-50, -50), *line, (-50, 80), (80, 80)]
    both = fill_polygons([left], SIZE_HW).astype(int) + fill_polygons([right], SIZE_HW)
    assert set(np.unique(both % 2)) == {1}


def test_rectangles_are_exact_as_in_coco() -> None:
    for x0, y0, x1, y1 in [(2, 3, 9, 11), (0, 0, 23, 17), (5, 5, 6, 6)]:
        ring = [x0, y0, x1, y0, x1, y1, x0, y1]
        theirs = coco_mask.decode(coco_mask.frPyObjects([ring], *SIZE_HW))[..., 0]
        ours = fill_polygons([np.reshape(ring, (-1, 2))], SIZE_HW)
        np.testing.assert_array_equal(ours, theirs)


def test_curved_outlines_are_as_in_coco_but_for_the_rim() -> None:
    angles = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        radius = 60 + 20 * np.cos(3 * angles + seed) + rng.uniform(-3, 3, 50)
        ring = np.stack([100 + radius * np.cos(angles), 90 + radius * np.sin(angles)], 1)
        rles = coco_mask.frPyObjects([ring.ravel().tolist()], 180, 200)
        theirs = coco_mask.decode(rles)[..., 0].astype(bool)
        ours = fill_polygons([ring], (180, 200))
        assert np.count_nonzero(ours & theirs) / np.count_nonzero(ours | theirs) > 0.98


def test_several_polygons_are_united_or_holes() -> None:
    outer, inner = [(0, 0), (8, 0), (8, 8), (0, 8)], [(2, 2), (4, 2), (4, 4), (2, 4)]
    assert fill_polygons([outer, inner], (10, 10)).sum() == 64
    assert fill_polygons([outer, inner], (10, 10), even_odd=True).sum() == 60
    assert not fill_polygons([], (10, 10)).any()


def test_far_corners_are_cut_off() -> None:
    far = [(-1e300, 4), (1e300, 4), (1e300, 6), (-1e300, 6)]
    assert fill_polygons([far], (10, 10)).sum(axis=1).tolist() == [0, 0, 0, 0, 10, 10, 0, 0, 0, 0]


def test_a_turned_rectangle_keeps_its_corner_and_area() -> None:
    corners = turned_rectangle(50, 20, 40, 20, 30)
    np.testing.assert_allclose(corners[0], (50, 20))
    np.testing.assert_allclose(corners[1], (50 + 40 * np.cos(np.pi / 6), 20 + 20))
    assert abs(fill_polygons([corners], (120, 120)).sum() - 800) < 15


def test_an_ellipse_is_turned_about_its_centre() -> None:
    flat = fill_ellipse((20.5, 15.5), (12, 5), (40, 40))
    steep = fill_ellipse((20.5, 15.5), (12, 5), (40, 40), 90)
    np.testing.assert_array_equal(steep, fill_ellipse((20.5, 15.5), (5, 12), (40, 40)))
    assert abs(flat.sum() - np.pi * 60) < 10
    leaning = fill_ellipse((20, 20), (15, 3), (40, 40), 45)
    assert leaning[28, 28]
    assert not leaning[28, 11], "clockwise, as y goes down"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fill_polygons([[(0, 0), (1, 1)]], (4, 4)), r"\(3 or more, 2\), got \(2, 2\)"),
        (lambda: fill_polygons([[0, 0, 1, 1, 2, 2]], (4, 4)), r"\(3 or more, 2\), got \(6,\)"),
        (lambda: fill_polygons([[(0, 0), (1, 1), (np.nan, 2)]], (4, 4)), "must be finite"),
        (lambda: fill_ellipse((0, 0), (0, 1), (4, 4)), "radii of more than 0, got centre"),
    ],
)
def test_impossible_outlines_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
