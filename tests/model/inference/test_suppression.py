"""Packed masks count like dense ones, and only duplicates go."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.inference import suppression
from sam_plugins.model.inference.suppression import PackedMasks, mask_boxes, suppress

BoolArray = npt.NDArray[np.bool_]

STACKS = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 140)).flatmap(
    lambda shape: hnp.arrays(bool, shape, elements=st.booleans(), fill=st.just(False))
)


def stack_of(*masks: str) -> BoolArray:
    """Read masks of one row each: ``#`` is inside."""
    return np.array([[[sign == "#" for sign in mask]] for mask in masks])


def greedy(masks: BoolArray, scores: list[float], max_iou: float, max_part: float) -> list[int]:
    """Suppress by the definition, one pair after the other."""
    kept: list[int] = []
    for index in sorted(range(len(masks)), key=lambda i: (-scores[i], i)):
        mask = masks[index]
        pairs = [(int((mask & masks[k]).sum()), int((mask | masks[k]).sum()), k) for k in kept]
        is_same = any(
            shared > max_iou * union or shared > max_part * min(mask.sum(), masks[k].sum())
            for shared, union, k in pairs
        )
        if mask.any() and not is_same:
            kept.append(index)
    return kept


@given(STACKS)
@settings(deadline=None)
def test_packed_masks_count_like_dense_ones(masks: BoolArray) -> None:
    packed = PackedMasks.pack(masks)
    assert len(packed) == len(masks)
    np.testing.assert_array_equal(packed.areas, masks.sum(axis=(1, 2)))
    everyone = np.arange(len(masks))
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(
            packed.shared(index, everyone), (masks & mask).sum(axis=(1, 2))
        )


@given(STACKS)
@settings(deadline=None)
def test_counting_without_a_processors_instruction_is_the_same(masks: BoolArray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(suppression.np, "bitwise_count", raising=False)
        packed = PackedMasks.pack(masks)
    np.testing.assert_array_equal(packed.areas, masks.sum(axis=(1, 2)))


def test_boxes_hold_first_and_last_cells() -> None:
    masks = np.zeros((4, 3, 70), bool)
    masks[0, 2, 69] = masks[1, 0, 0] = True
    masks[2, 1, 3:66] = masks[2, 0, 5] = True
    assert mask_boxes(masks).tolist() == [
        [69, 2, 69, 2],
        [0, 0, 0, 0],
        [3, 0, 65, 1],
        [0, 0, -1, -1],
    ]


def test_packs_join_and_may_be_empty() -> None:
    nothing = PackedMasks.pack(np.zeros((0, 3, 70), bool))
    assert len(nothing) == 0
    some = PackedMasks.pack(np.ones((2, 3, 70), bool))
    joined = PackedMasks.concatenate([nothing, some, nothing, some])
    assert joined.areas.tolist() == [210] * 4
    assert joined.shared(0, np.array([3, 1])).tolist() == [210, 210]
    assert suppress(nothing, np.zeros(0), max_iou=0.5).tolist() == []


def test_duplicates_go_and_the_best_stays() -> None:
    masks = PackedMasks.pack(stack_of("####......", "###.......", ".....###..", "....####.."))
    scores = np.array([0.7, 0.8, 0.9, 0.6])
    assert suppress(masks, scores, max_iou=0.7).tolist() == [2, 1]
    assert suppress(masks, scores, max_iou=0.75).tolist() == [2, 1, 0, 3]  # 3 / 4 is not more
    assert suppress(masks, scores, max_iou=1).tolist() == [2, 1, 0, 3]


def test_a_mask_within_another_goes_only_on_demand() -> None:
    masks = PackedMasks.pack(stack_of("########..", ".##.......", "......####"))
    scores = np.array([0.9, 0.8, 0.7])
    assert suppress(masks, scores, max_iou=0.5).tolist() == [0, 1, 2]
    assert suppress(masks, scores, max_iou=0.5, max_containment=0.5).tolist() == [0, 2]
    assert suppress(masks, scores, max_iou=0.5, max_containment=0.49).tolist() == [0]


def test_a_suppressed_mask_suppresses_nothing() -> None:
    chain = PackedMasks.pack(stack_of("####...", ".####..", "..####."))  # neighbours share 3 of 5
    assert suppress(chain, np.array([0.9, 0.8, 0.7]), max_iou=0.5).tolist() == [0, 2]


def test_of_equal_scores_the_first_stays_and_nothing_is_no_mask() -> None:
    masks = PackedMasks.pack(stack_of("...", "##.", "##."))
    assert suppress(masks, np.array([1.0, 0.5, 0.5]), max_iou=0.5).tolist() == [1]


def test_boxes_may_meet_where_masks_do_not() -> None:
    diagonal = np.eye(5, dtype=bool)
    masks = PackedMasks.pack(np.stack([diagonal, ~diagonal]))
    assert suppress(masks, np.array([0.5, 0.6]), max_iou=0.01).tolist() == [1, 0]


@given(STACKS, st.data())
@settings(deadline=None)
def test_it_is_the_definition_whatever_the_order(masks: BoolArray, data: st.DataObject) -> None:
    scores = data.draw(st.permutations(np.linspace(0, 1, len(masks)).tolist()))
    max_iou = data.draw(st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]))
    max_part = data.draw(st.sampled_from([0.3, 0.75, 1.0]))
    kept = suppress(
        PackedMasks.pack(masks), np.array(scores), max_iou=max_iou, max_containment=max_part
    )
    assert kept.tolist() == greedy(masks, scores, max_iou, max_part)
    order = np.array(data.draw(st.permutations(range(len(masks)))))
    shuffled = suppress(
        PackedMasks.pack(masks[order]),
        np.array(scores)[order],
        max_iou=max_iou,
        max_containment=max_part,
    )
    assert order[shuffled].tolist() == kept.tolist()


def test_two_thousand_masks_are_compared_with_their_neighbours_only() -> None:
    masks = np.zeros((2025, 225, 225), bool)
    for index in range(2025):
        y, x = divmod(index, 45)
        masks[index, 5 * y : 5 * y + 6, 5 * x : 5 * x + 6] = True
    packed = PackedMasks.pack(masks)
    start = time.process_time()
    kept = suppress(packed, np.linspace(1, 0, 2025), max_iou=0.5)
    assert time.process_time() - start < 1  # 0.04 s where it was written
    assert len(kept) == 2025


def test_a_score_is_needed_for_each_mask() -> None:
    with pytest.raises(ValueError, match="scores must have one value for each of 2, got 3"):
        suppress(PackedMasks.pack(np.ones((2, 2, 2), bool)), np.zeros(3), max_iou=0.5)
