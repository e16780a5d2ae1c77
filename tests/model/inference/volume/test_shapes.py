from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.volume.options import PropagationOptions
from sam_plugins.model.inference.volume.shapes import (
    blend,
    box_between,
    box_inside,
    deepest_point,
    leaning_overlap,
    moved_box,
    pieces_touching,
    shared_pixels,
    window_iou,
    window_of,
)
from sam_plugins.model.inference.volume.stepping import least_overlap

NOTHING = window_of(np.zeros((5, 5), bool))


def square(top: int, left: int, side: int) -> WindowMask:
    mask = np.zeros((30, 30), bool)
    mask[top : top + side, left : left + side] = True
    return window_of(mask)


def drawn(found: WindowMask) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((30, 30), bool)
    mask[found.window] = found.mask
    return mask


def test_overlaps_are_those_of_whole_masks() -> None:
    first, second = square(3, 4, 6), square(6, 7, 8)
    a, b = drawn(first), drawn(second)
    assert shared_pixels(first, second) == (a & b).sum() == 9
    assert window_iou(first, second) == (a & b).sum() / (a | b).sum()
    assert window_iou(first, square(20, 20, 3)) == 0
    assert window_iou(NOTHING, NOTHING) == 0
    assert window_iou(first, NOTHING) == 0


def test_an_empty_mask_has_no_window() -> None:
    assert NOTHING.mask.size == 0


def test_pieces_that_touch_the_last_mask_stay() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:8, 2:8] = mask[12:24, 12:24] = True
    mask[9, 2] = True
    kept = pieces_touching(window_of(mask), square(3, 3, 4), min_share=0.1)
    assert (drawn(kept) == drawn(square(2, 2, 6))).all()
    elsewhere = pieces_touching(window_of(mask), square(26, 0, 3), min_share=0.1)
    assert (drawn(elsewhere) == drawn(square(12, 12, 12))).all()


def test_a_box_goes_on_as_it_went_and_not_farther_than_allowed() -> None:
    box, before = np.array([10.0, 10, 20, 20]), np.array([8.0, 10, 18, 20])

    def moved(shift: float, growth: float, limit: float = 1.0) -> list[float]:
        found = moved_box(box, before, shift=shift, growth=growth, limit=limit)
        return [float(value) for value in found]

    assert moved(0, 0) == box.tolist()
    assert moved(0.5, 0) == moved(0.5, 1) == [11, 10, 21, 20]
    assert moved(1, 0, 0.05) == [10.5, 10, 20.5, 20]
    before = np.array([8.0, 10, 22, 20])
    assert moved(1, 0) == box.tolist()
    assert moved(1, 0.5) == [11, 10, 19, 20]
    assert moved_box(box, None, shift=1, growth=1, limit=1) is box


def test_a_box_that_shrinks_to_nothing_or_leaves_is_none() -> None:
    assert box_inside(np.array([12.0, 10, 11.9, 20]), (40, 40)) is None
    assert box_inside(np.array([39.6, 10, 45, 20]), (40, 40)) is None
    whole = box_inside(np.array([-9.0, -9, 90, 90]), (40, 50))
    assert whole is not None
    assert whole.tolist() == [-0.5, -0.5, 49.5, 39.5]


def test_the_deepest_point_lies_inside_a_ring() -> None:
    mask = np.ones((9, 9), bool)
    mask[2:8, 2:8] = False
    x, y = deepest_point(WindowMask((slice(5, 14), slice(7, 16)), mask))
    assert mask[int(y) - 5, int(x) - 7]


@pytest.mark.parametrize(("weight", "side"), [(0.0, 2), (0.25, 4), (0.5, 6), (1.0, 10)])
def test_between_two_squares_lies_a_square(weight: float, side: int) -> None:
    between = blend(square(10, 10, 2), square(6, 6, 10), weight, (30, 30))
    assert between.mask.shape == (side, side)  # corners may be round
    assert between.mask.mean() > 0.7


def test_shapes_at_the_border_blend() -> None:
    whole = WindowMask((slice(0, 4), slice(0, 4)), np.ones((4, 4), bool))
    assert blend(whole, whole, 0.5, (4, 4)).mask.all()


def test_a_ball_between_its_middle_and_its_tip() -> None:
    heights = np.linspace(0, 0.95, 20)
    sides = 20 * np.sqrt(1 - heights**2)
    boxes = [np.array([50 - s / 2, 30 - s / 2, 50 + s / 2, 30 + s / 2]) for s in sides]
    for index in range(20):
        share = index / 19
        for first, last, part in ((0, -1, share), (-1, 0, 1 - share)):
            between = box_between(boxes[first], boxes[last], part)
            np.testing.assert_allclose(between, boxes[index], atol=1e-9)


def test_what_keeps_its_size_moves_on_a_straight_line() -> None:
    first, last = np.array([0.0, 0, 10, 4]), np.array([20.0, 8, 30, 12])
    np.testing.assert_allclose(box_between(first, last, 0.25), [5, 2, 15, 6])


def test_thick_slices_need_less_overlap() -> None:
    options = PropagationOptions(min_overlap=0.6)
    assert least_overlap(400, 0.5, options) == least_overlap(400, 1.0, options) == 0.6
    assert 0.3 <= least_overlap(400, 3.0, options) < 0.5
    assert least_overlap(2, 5.0, options) == 0.3
    assert least_overlap(400, 3.0, replace(options, allow_steps=False)) == 0.6
    assert leaning_overlap(1, 5.0) == 0
