"""A correction changes what it asks for, and little else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sam_plugins.model.inference.corrections import (
    DISC,
    ELSEWHERE,
    can_correct,
    steadied,
)
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image, predict_masks
from sam_plugins.model.inference.types import Prompts

SIZE_HW = (32, 40)  # of the picture and of the input: 4 pixels are a cell


def _logits(*inside: tuple[slice, slice]) -> npt.NDArray[np.float32]:
    """Return logits (1, 1, 8, 10), 5 inside and -5 outside."""
    logits = np.full((1, 1, 8, 10), -5, np.float32)
    for window in inside:
        logits[0, 0][window] = 5
    return logits


def _cell(x: int, y: int) -> tuple[float, float]:
    """Return a point of the picture within a cell."""
    return 4 * x + 1.5, 4 * y + 1.5


LEFT, RIGHT, FAR = (
    (slice(1, 4), slice(1, 3)),
    (slice(1, 4), slice(3, 5)),
    (slice(6, 8), slice(7, 10)),
)


def test_the_piece_that_was_clicked_follows_the_answer_and_another_does_not() -> None:
    earlier, answer = _logits(LEFT), _logits(LEFT, RIGHT, FAR)
    prompts = Prompts([[_cell(1, 2), _cell(4, 2)]], mask_logits=earlier)
    result = steadied(answer, prompts, SIZE_HW, SIZE_HW)
    np.testing.assert_array_equal(result > 0, _logits(LEFT, RIGHT) > 0)
    np.testing.assert_array_equal(result[0, 0][RIGHT], 5)
    # The rest is where the level, which moves around the click, has all but faded.
    np.testing.assert_allclose(result[0, 0][FAR], -5 + ELSEWHERE * 10, atol=0.15)


def test_the_answer_counts_as_far_around_a_click_as_people_click_in_the_middle() -> None:
    earlier, answer = np.full((1, 1, 8, 40), -5, np.float32), np.full((1, 1, 8, 40), -5, np.float32)
    earlier[0, 0, 2:5, :3] = 5
    answer[0, 0, 2:5, :30] = 5  # one piece of change, of which the click is at the near end
    prompts = Prompts([[_cell(1, 3), _cell(5, 3)]], mask_logits=earlier)
    result = steadied(answer, prompts, (32, 160), (32, 160))[0, 0] > 0
    # The border is 3 cells away, so that 6 count.
    assert result[3, 5 + 6]
    assert not result[3, 5 + 7 :].any()


def test_a_click_that_was_followed_stays_followed() -> None:
    earlier, answer = _logits(LEFT, FAR), _logits(RIGHT)
    earlier[0, 0][FAR] = 0.5
    prompts = Prompts([[_cell(8, 7), _cell(4, 2)]], mask_logits=earlier)
    result = steadied(answer, prompts, SIZE_HW, SIZE_HW)[0, 0]
    assert result[7, 8] == pytest.approx(0.5, abs=0.05)
    assert result[2, 4] == 5


def _disc(radius: float, slope: float = 0.5) -> npt.NDArray[np.float32]:
    """Return logits (1, 1, 41, 41) of a disc, which fall outwards by ``slope`` a cell."""
    y, x = np.ogrid[-20:21, -20:21]
    return (slope * (radius - np.hypot(y, x)))[None, None].astype(np.float32)


def _corrected(
    earlier: npt.NDArray[np.float32], clicks: list[tuple[int, int]], kinds: list[int]
) -> npt.NDArray[np.bool_]:
    """Return the mask (41, 41) where the decoder says again what it said before."""
    prompts = Prompts([[_cell(x, y) for x, y in clicks]], [kinds], mask_logits=earlier)
    mask: npt.NDArray[np.bool_] = steadied(earlier, prompts, (164, 164), (164, 164))[0, 0] > 0
    return mask


@pytest.mark.parametrize(("x", "kind"), [(28, 1), (24, 0)])
def test_near_a_click_the_mask_ends_as_far_beyond_it_as_it_ended_before(x: int, kind: int) -> None:
    earlier = _disc(6.4)  # its last cell is at 26
    row = _corrected(earlier, [(20, 20), (x, 20)], [1, kind])[20]
    end = int(np.flatnonzero(row)[-1])
    assert end in ({28, 29} if kind else {22, 23, 24})
    assert int(np.flatnonzero(row)[0]) == 14  # the other side stays


def test_a_mask_that_ended_too_early_grows_beside_the_click_too() -> None:
    earlier = _disc(6.4)
    grown = _corrected(earlier, [(20, 20), (28, 20)], [1, 1])
    new = grown & ~(earlier[0, 0] > 0)
    assert not ((earlier[0, 0] > 0) & ~grown).any()
    assert new[18:23, 27].all()
    assert not new[:, :20].any()


@pytest.mark.parametrize("kind", [1, 0])
def test_the_level_never_moves_past_another_click(kind: int) -> None:
    # The first is followed by a hair, right beside the one that moves the level away from it.
    earlier = _disc(6.4)
    near, last = ((25, 20), (24, 20)) if kind == 0 else ((27, 20), (28, 20))
    mask = _corrected(earlier, [near, last], [1 - kind, kind])
    assert mask[near[1], near[0]] == (earlier[0, 0][near[1], near[0]] > 0) == (kind == 0)


def test_what_every_answer_says_comes_through_in_the_end() -> None:
    mask, answer = _logits(LEFT), _logits(LEFT, FAR)
    points = [[_cell(1, 2), _cell(2, 2)]]
    for _ in range(3):
        mask = steadied(answer, Prompts(points, mask_logits=mask), SIZE_HW, SIZE_HW)
    np.testing.assert_array_equal(mask > 0, answer > 0)


def test_a_click_beside_the_object_takes_its_piece_away() -> None:
    earlier, answer = _logits(LEFT, FAR), _logits(RIGHT)
    prompts = Prompts([[_cell(1, 2), _cell(8, 7)]], [[1, 0]], mask_logits=earlier)
    result = steadied(answer, prompts, SIZE_HW, SIZE_HW) > 0
    np.testing.assert_array_equal(result, _logits(LEFT) > 0)


def test_a_last_click_that_the_answer_ignores_too_has_its_way_in_a_disc() -> None:
    earlier, answer = _logits(LEFT), _logits(RIGHT)
    prompts = Prompts([[_cell(1, 2), _cell(8, 5)]], mask_logits=earlier)
    result = steadied(answer, prompts, SIZE_HW, SIZE_HW)
    expected = _logits(LEFT) > 0
    expected[0, 0, 5, 7:10] = expected[0, 0, 4:7, 8] = True  # of half the mask's side
    np.testing.assert_array_equal(result > 0, expected)


def test_near_the_border_the_disc_of_an_ignored_click_does_not_reach_it() -> None:
    earlier = np.full((1, 1, 40, 40), 5, np.float32)
    earlier[0, 0, :, 30:] = earlier[0, 0, 0] = -5  # four cells above the click
    prompts = Prompts([[_cell(20, 20), _cell(20, 4)]], [[1, 0]], mask_logits=earlier)
    result = steadied(earlier, prompts, (160, 160), (160, 160))[0, 0]
    taken = (result > 0) != (earlier[0, 0] > 0)
    y, x = np.indices(taken.shape)
    np.testing.assert_array_equal(taken, np.hypot(y - 4, x - 20) <= DISC * 4)


def test_the_disc_of_an_ignored_click_leaves_out_clicks_of_the_other_kind() -> None:
    earlier = np.full((1, 1, 40, 40), 5, np.float32)
    earlier[0, 0, :, 39] = -5
    clicks = [[_cell(21, 20), _cell(20, 20)]]
    prompts = Prompts(clicks, [[1, 0]], mask_logits=earlier)
    result = steadied(earlier, prompts, (160, 160), (160, 160))[0, 0]
    assert result[20, 21] > 0
    assert result[20, 20] < 0
    assert result[20, 19] < 0


def test_a_second_look_with_the_same_lone_click_stays_as_it_is() -> None:
    answer = _logits(LEFT, FAR)
    prompts = Prompts([[_cell(1, 2)]], mask_logits=_logits(LEFT))
    np.testing.assert_array_equal(steadied(answer, prompts, SIZE_HW, SIZE_HW), answer)
    # A lone click against a mask, such as one that was drawn, does correct it.
    against = Prompts([[_cell(3, 2)]], mask_logits=_logits(LEFT, FAR))
    result = steadied(_logits(LEFT, RIGHT), against, SIZE_HW, SIZE_HW)
    np.testing.assert_array_equal(result > 0, _logits(LEFT, RIGHT, FAR) > 0)


def test_every_object_of_a_batch_has_its_own_earlier_mask() -> None:
    earlier = np.concatenate([_logits(LEFT), _logits(LEFT, FAR)])
    answer = np.concatenate([_logits(LEFT, RIGHT), _logits(LEFT)])
    points = [[_cell(1, 2), _cell(4, 2)], [_cell(8, 7), _cell(0, 0)]]
    prompts = Prompts(points, [[1, 1], [0, -1]], mask_logits=earlier)
    result = steadied(answer, prompts, SIZE_HW, SIZE_HW)
    np.testing.assert_array_equal(result > 0, answer > 0)


@pytest.mark.parametrize("kind", ["points", "logits"])
def test_without_points_or_without_an_earlier_mask_nothing_is_corrected(kind: str) -> None:
    prompts = (
        Prompts([[(1, 1), (2, 2)]]) if kind == "points" else Prompts(mask_logits=_logits(LEFT))
    )
    assert not can_correct(prompts)


def test_predict_masks_steadies_the_single_mask_unless_told_not_to(
    any_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    embedding = encode_image(any_model, picture)
    first = predict_masks(any_model, embedding, Prompts.single_points([[20, 30]])).best()
    prompts = Prompts([[[20, 30], [60, 40]]], [[1, 0]], mask_logits=first.low_res_logits)
    plain = predict_masks(any_model, embedding, prompts, steady=False).low_res_logits
    steady = predict_masks(any_model, embedding, prompts).low_res_logits
    expected = steadied(plain, prompts, embedding.original_size_hw, embedding.input_size_hw)
    np.testing.assert_allclose(steady, expected, atol=1e-4)
    assert not np.array_equal(steady, plain)
    three, same = (
        predict_masks(any_model, embedding, prompts, multimask=True, steady=one).low_res_logits
        for one in (True, False)
    )
    np.testing.assert_array_equal(three, same)
