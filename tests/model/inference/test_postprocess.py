"""Holes and islands: what goes, what stays, and what never happens whatever the mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sam_plugins.model.inference.postprocess import (
    clean_mask,
    drop_islands,
    fill_holes,
    stability_scores,
)

BoolArray = npt.NDArray[np.bool_]

EIGHT = np.ones((3, 3), bool)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
SHARES = st.floats(0, 1)


def mask_of(*rows: str) -> BoolArray:
    """Read a mask: ``#`` is inside."""
    return np.array([[sign == "#" for sign in row] for row in rows])


def piece_areas(mask: BoolArray) -> list[int]:
    """Pixels of the pieces of a mask, ascending."""
    pieces, _ = ndimage.label(mask, structure=EIGHT)
    return sorted(np.bincount(pieces.ravel())[1:].tolist())


RING = mask_of(
    "#####..",
    "#.###..",
    "###.##.",
    "##..#..",
    "#####.#",
)  # a hole of 1, a hole of 3, an island


def test_holes_up_to_an_area_are_filled() -> None:
    assert fill_holes(RING, 0) is RING
    assert (fill_holes(RING, 1) != RING).sum() == 1
    assert fill_holes(RING, 1)[1, 1]
    assert fill_holes(RING, 2.9).sum() == RING.sum() + 1
    assert fill_holes(RING, 3).sum() == RING.sum() + 4
    assert (fill_holes(RING, np.inf) == fill_holes(RING, 3)).all()


@pytest.mark.parametrize("turns", range(4))
def test_a_bay_at_the_border_is_no_hole(turns: int) -> None:
    bay = np.rot90(mask_of("#.##", "#.##", "####"), turns)
    assert (fill_holes(bay, np.inf) == bay).all()


def test_a_hole_leaks_through_edges_but_not_through_corners() -> None:
    closed = mask_of(".#.", "#.#", ".#.")
    assert fill_holes(closed, 1)[1, 1]
    leaking = mask_of(".#.", "#..", ".#.")
    assert (fill_holes(leaking, np.inf) == leaking).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 1), (3, 5)])
def test_the_empty_mask_and_the_full_one_stay_as_they_are(shape: tuple[int, int]) -> None:
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        for changed in (
            fill_holes(mask, np.inf),
            drop_islands(mask, 100),
            clean_mask(mask, hole_share=1, island_share=1),
        ):
            np.testing.assert_array_equal(changed, mask)


def test_islands_below_an_area_are_dropped() -> None:
    mask = mask_of("###.#", "....#", "#....")  # 3, 2 and 1
    assert piece_areas(drop_islands(mask, 0)) == [1, 2, 3]
    assert piece_areas(drop_islands(mask, 2)) == [2, 3]
    assert piece_areas(drop_islands(mask, 2.1)) == [3]
    assert piece_areas(drop_islands(mask, 1000)) == [3]


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    mask = mask_of("##..", "..##")
    assert drop_islands(mask, 4) is mask


def test_what_is_small_depends_on_the_largest_piece() -> None:
    cleaned = clean_mask(RING, hole_share=0.1, island_share=0.1)
    assert (cleaned[:, :5] == fill_holes(RING, 1)[:, :5]).all()
    assert not cleaned[4, 6]
    assert (clean_mask(RING, hole_share=0, island_share=0.1)[:, :5] == RING[:, :5]).all()
    assert clean_mask(RING, hole_share=0.1, island_share=0)[4, 6]
    assert clean_mask(RING, hole_share=0, island_share=0) is RING


def test_what_somebody_pointed_at_stays_however_small() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:22, 2:22] = True
    mask[5, 5] = mask[15, 15] = False
    mask[25, 25] = mask[28, 2] = True
    shares = {"hole_share": 0.1, "island_share": 0.1}
    on, beside = np.array([[25, 25], [-1, 3], [28, 99]]), np.array([[5, 5], [40, 40]])
    cleaned = clean_mask(mask, **shares, on_yx=on, beside_yx=beside)
    expected = mask.copy()
    expected[15, 15] = True
    expected[28, 2] = False
    np.testing.assert_array_equal(cleaned, expected)
    background = np.array([[0, 0]])
    again = clean_mask(mask, **shares, on_yx=background, beside_yx=background)
    np.testing.assert_array_equal(again, clean_mask(mask, **shares))


def test_an_island_in_a_hole_goes_with_the_hole() -> None:
    target = np.ones((9, 9), bool)
    target[2:7, 2:7] = False
    target[4, 4] = True
    assert clean_mask(target, hole_share=0.5, island_share=0.1).all()


@given(MASKS, SHARES)
@settings(deadline=None)
def test_dropping_islands_only_takes_whole_pieces(mask: BoolArray, share: float) -> None:
    largest = max(piece_areas(mask), default=0)
    changed = drop_islands(mask, share * largest)
    assert not (changed & ~mask).any()
    assert piece_areas(changed) == [a for a in piece_areas(mask) if a >= share * largest]
    cleaned = clean_mask(mask, hole_share=0, island_share=share)
    np.testing.assert_array_equal(cleaned, changed)


@given(MASKS, st.integers(0, 30))
@settings(deadline=None)
def test_filling_holes_only_adds_and_twice_is_once(mask: BoolArray, area: int) -> None:
    filled = fill_holes(mask, area)
    assert not (mask & ~filled).any()
    np.testing.assert_array_equal(fill_holes(filled, area), filled)
    np.testing.assert_array_equal(fill_holes(mask, np.inf), ndimage.binary_fill_holes(mask))


@given(MASKS, SHARES, SHARES)
@settings(deadline=None)
def test_a_cleaned_mask_never_gains_pieces(
    mask: BoolArray, hole_share: float, island_share: float
) -> None:
    before = piece_areas(mask)
    after = piece_areas(clean_mask(mask, hole_share=hole_share, island_share=island_share))
    assert len(after) <= len(before)
    assert bool(after) == bool(before)
    if after:
        assert after[-1] >= before[-1]


def test_stability_is_the_iou_of_two_thresholds() -> None:
    inner, outer = np.array([0, 0, 3, 5]), np.array([0, 4, 4, 5])
    assert stability_scores(inner, outer).tolist() == [0, 0, 0.75, 1]
    assert stability_scores(1, 2) == 0.5
