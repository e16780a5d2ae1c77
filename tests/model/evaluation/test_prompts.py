"""Centre points and boxes of objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.evaluation.prompts import centre_point_xy, tight_box_xyxy, true_objects

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def test_centre_of_simple_shapes() -> None:
    assert centre_point_xy(np.ones((5, 5), bool)) == (2, 2)
    assert centre_point_xy(np.ones((3, 11), bool)) == (5, 1)  # in the middle of the ridge
    assert centre_point_xy(np.ones((4, 4), bool)) == (1, 1)  # first of four in reading order
    assert centre_point_xy(np.ones((1, 1), bool)) == (0, 0)


def test_the_border_of_the_picture_is_a_border() -> None:
    mask = np.zeros((9, 9), bool)
    mask[:, :5] = True  # runs out of the picture on three sides
    assert centre_point_xy(mask) == (2, 4)


def test_a_ring_is_asked_for_on_the_ring() -> None:
    rows, columns = np.mgrid[:31, :31]
    radius = np.hypot(rows - 15, columns - 15)
    ring = (radius < 15) & (radius > 7)
    x, y = centre_point_xy(ring)
    assert ring[y, x]
    assert 9 < np.hypot(x - 15, y - 15) < 13


def test_of_several_pieces_the_largest_counts() -> None:
    mask = np.zeros((12, 30), bool)
    mask[0:5, 0:5] = True  # thicker, 25 pixels
    mask[8:11, 0:30] = True  # larger, 90 pixels
    assert centre_point_xy(mask)[1] == 9
    corner = np.array([[1, 0], [0, 1]], bool)  # 8-connected: one piece
    assert centre_point_xy(corner) == (0, 0)


@given(MASKS)
def test_centre_lies_inside_and_as_deep_as_any(mask: np.ndarray) -> None:
    assume(mask.any())
    x, y = centre_point_xy(mask)
    assert mask[y, x]
    background = np.argwhere(~np.pad(mask, 1)) - 1

    def depth(row: int, column: int) -> float:
        return float(((background - [row, column]) ** 2).sum(axis=1).min())

    from scipy import ndimage

    pieces, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes[pieces[y, x] - 1] == sizes.max()
    # Other pieces count as background, but as 8-neighbours they are never nearer than that.
    inside = np.argwhere(pieces == pieces[y, x])
    assert depth(y, x) == max(depth(*one) for one in inside)


@given(MASKS)
def test_box_is_tight(mask: np.ndarray) -> None:
    assume(mask.any())
    x0, y0, x1, y1 = tight_box_xyxy(mask)
    rows, columns = np.nonzero(mask)
    assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max(), rows.max())


@pytest.mark.parametrize("function", [centre_point_xy, tight_box_xyxy])
def test_an_empty_mask_is_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"hold at least one pixel, got shape \(3, 4\) with 0"):
        function(np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match=r"mask must have shape \(H, W\) .* got shape \(3,\)"):
        function(np.ones(3, bool))


@given(hnp.arrays(np.int64, st.just((7, 6)), elements=st.sampled_from([0, 1, 2, 40, 70_000])))
def test_objects_of_a_label_image(labels: np.ndarray) -> None:
    objects = list(true_objects(labels))
    assert [one.object_id for one in objects] == sorted(set(labels[labels > 0].tolist()))
    for one in objects:
        mask = labels == one.object_id
        assert one.area == mask.sum()
        assert one.box_xyxy == tight_box_xyxy(mask)
        assert one.point_xy == centre_point_xy(mask)
        whole = np.zeros_like(mask)
        whole[one.window] = one.mask
        np.testing.assert_array_equal(whole, mask)


def test_whole_masks_replace_the_visible_ones() -> None:
    labels = np.array([[1, 1, 1], [1, 2, 1], [0, 0, 0]])
    whole = labels > 0
    first, second = true_objects(labels, {1: whole})
    assert first.area == 6
    assert first.box_xyxy == (0, 0, 2, 1)
    assert second.area == 1
    assert second.point_xy == (1, 1)
    assert list(true_objects(np.zeros((3, 3), int))) == []
