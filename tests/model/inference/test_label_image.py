"""Masks share a picture: who wins, what remains, and which rules can be switched off."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.label_image import LabelOptions, paint_labels

BoolArray = npt.NDArray[np.bool_]

RAW = LabelOptions(hole_share=0, island_share=0, min_area=0, min_visible=0)
"""Every rule switched off."""


def row(text: str) -> WindowMask:
    """Read a mask of one row: ``#`` is inside."""
    mask = np.array([[sign == "#" for sign in text]])
    return WindowMask((slice(0, 1), slice(0, len(text))), mask)


def whole(mask: BoolArray) -> WindowMask:
    """Put a mask into a window as large as the picture."""
    return WindowMask((slice(0, mask.shape[0]), slice(0, mask.shape[1])), mask)


def test_earlier_masks_keep_their_pixels() -> None:
    painted = paint_labels([row("####..."), row("..####.")], (1, 7), RAW)
    assert painted.labels.tolist() == [[1, 1, 1, 1, 2, 2, 0]]
    assert painted.labels.dtype == np.int32
    assert painted.sources.tolist() == [0, 1]


def test_masks_are_painted_where_their_windows_are() -> None:
    mask = WindowMask((slice(1, 3), slice(2, 4)), np.array([[True, False], [True, True]]))
    assert paint_labels([mask], (3, 4), RAW).labels.tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]


def test_nothing_is_painted_of_nothing() -> None:
    nothing = WindowMask((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
    for masks in ([], [nothing], [row("....")]):
        for options in (None, RAW):
            painted = paint_labels(masks, (1, 4), options)
            assert not painted.labels.any()
            assert painted.sources.size == 0


def test_objects_that_others_cover_are_dropped_and_labels_stay_consecutive() -> None:
    masks = [row("####...."), row(".####..."), row("......##")]
    options = LabelOptions(0, 0, 0, min_visible=0.3)
    painted = paint_labels(masks, (1, 8), options)
    assert painted.labels.tolist() == [[1, 1, 1, 1, 0, 0, 2, 2]]
    assert painted.sources.tolist() == [0, 2]
    assert paint_labels(masks, (1, 8), RAW).labels.tolist() == [[1, 1, 1, 1, 2, 0, 3, 3]]


def test_small_objects_are_dropped() -> None:
    masks = [row("##......"), row("...###..")]
    assert paint_labels(masks, (1, 8), LabelOptions(min_area=3)).sources.tolist() == [1]
    assert paint_labels(masks, (1, 8), LabelOptions(min_area=2)).sources.tolist() == [0, 1]


def test_holes_are_filled_and_islands_dropped_where_asked() -> None:
    mask = np.zeros((8, 12), bool)
    mask[1:7, 1:7] = True
    mask[3, 3] = False
    mask[6, 10] = True
    assert (paint_labels([whole(mask)], mask.shape, RAW).labels == mask).all()
    plausible = mask.copy()
    plausible[3, 3], plausible[6, 10] = True, False
    assert (paint_labels([whole(mask)], mask.shape).labels == plausible).all()


def test_a_mask_that_others_cut_to_pieces_keeps_the_large_ones() -> None:
    masks = [row(".....##............"), row("#################..")]
    options = LabelOptions(hole_share=0, island_share=0.6, min_area=0, min_visible=0)
    # Pieces of 5 and 10: small is measured against the larger one.
    assert paint_labels(masks, (1, 19), options).labels.tolist() == [
        [0] * 5 + [1] * 2 + [2] * 10 + [0] * 2
    ]
    assert np.bincount(paint_labels(masks, (1, 19), RAW).labels[0]).tolist() == [2, 2, 15]


def test_a_nested_object_cuts_a_hole_that_stays() -> None:
    inner, outer = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    inner[4, 4], outer[1:8, 1:8] = True, True
    labels = paint_labels([whole(inner), whole(outer)], (9, 9), LabelOptions(min_area=1)).labels
    assert labels[4, 4] == 1
    assert np.bincount(labels.ravel()).tolist() == [81 - 49, 1, 48]


@given(
    hnp.arrays(bool, st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 9))),
    st.builds(
        LabelOptions,
        hole_share=st.sampled_from([0, 0.1, 1]),
        island_share=st.sampled_from([0, 0.1, 1]),
        min_area=st.integers(0, 12),
        min_visible=st.sampled_from([0, 0.5, 1]),
    ),
)
@settings(deadline=None)
def test_laws_of_every_label_image(masks: BoolArray, options: LabelOptions) -> None:
    size_hw = masks.shape[1:]
    labels, sources = paint_labels(map(whole, masks), size_hw, options)
    assert labels.shape == size_hw
    areas = np.bincount(labels.ravel(), minlength=len(sources) + 1)[1:]
    assert len(areas) == len(sources)
    assert (areas >= max(1, options.min_area)).all()
    assert (np.diff(sources) > 0).all()
    if options.hole_share == 0:
        for label, source in enumerate(sources, 1):
            assert not ((labels == label) & ~masks[source]).any()
    if options.island_share == 1:
        for label in range(1, len(sources) + 1):
            pieces, _ = ndimage.label(labels == label, structure=np.ones((3, 3)))
            assert len(set(np.bincount(pieces.ravel())[1:])) == 1
    if options == RAW:
        assert ((labels > 0) == masks.any(axis=0)).all()


def test_two_thousand_objects_take_little_time() -> None:
    rows, columns = np.mgrid[-10:11, -10:11]
    disc = np.hypot(rows, columns) < 10
    masks = [
        WindowMask((slice(y, y + 21), slice(x, x + 21)), disc)
        for y in range(0, 990, 22)
        for x in range(0, 990, 22)
    ]
    start = time.process_time()
    painted = paint_labels(masks, (1024, 1024))
    assert time.process_time() - start < 2  # 0.15 s where it was written
    assert len(painted.sources) == len(masks) == 2025


@pytest.mark.parametrize("name", ["hole_share", "island_share", "min_visible"])
def test_shares_lie_between_0_and_1(name: str) -> None:
    for value in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got {value}"):
            LabelOptions(**{name: value})


def test_an_area_is_not_negative() -> None:
    with pytest.raises(ValueError, match="min_area must be 0 or more, got -1"):
        LabelOptions(min_area=-1)
