"""Which picture next: three numbers, and how they become an order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.engine.selection import (
    GainWeights,
    Signals,
    choose_next,
    expected_error,
    mask_disagreement,
    measure_signals,
    novelty,
    pooled_embedding,
    promising_points,
    shows_nothing,
)
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.types import MaskPrediction


def answer(masks: list[list[list[int]]], ious: list[float]) -> MaskPrediction:
    """One object whose masks are given as 0 and 1."""
    logits = np.array([masks], np.float32) * 2 - 1
    size = logits.shape[-2:]
    return MaskPrediction(logits, np.array([ious], np.float32), size, size, size)


def signals(name: str, *numbers: float, angle: float = 0.0) -> Signals:
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return Signals(name, numbers[0], numbers[1], vector, 3)


def test_masks_that_agree_and_masks_that_do_not() -> None:
    same = answer([[[1, 1, 0]]] * 3, [0.5] * 3)
    assert mask_disagreement(same) == 0
    # IoU 1/2 of the first two, 0 of the others with the third.
    apart = answer([[[1, 1, 0]], [[1, 0, 0]], [[0, 0, 1]]], [0.5] * 3)
    assert mask_disagreement(apart) == pytest.approx((0.5 + 1 + 1) / 3)
    empty = answer([[[0, 0, 0]]] * 3, [0.5] * 3)
    assert mask_disagreement(empty) == 0


def test_the_expected_error_is_of_the_best_mask() -> None:
    assert expected_error(answer([[[1]]] * 3, [0.1, 0.75, 0.3])) == pytest.approx(0.25)
    assert expected_error(answer([[[1]]], [1.2])) == 0  # more than all is all
    none = MaskPrediction(np.zeros((0, 3, 1, 1)), np.zeros((0, 3)), (1, 1), (1, 1), (1, 1))
    assert (expected_error(none), mask_disagreement(none)) == (1, 0)


def test_novelty_is_the_distance_to_the_nearest() -> None:
    right, up = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert novelty(right, []) == 1
    assert novelty(right, [up]) == 1
    assert novelty(right, [up, right]) == 0


def test_the_order_is_by_rank_and_new_pictures_count_at_once() -> None:
    pool = [
        signals("certain", 0.1, 0.1, angle=0.0),
        signals("doubtful", 0.5, 0.9, angle=1.0),
        signals("doubtful twin", 0.4, 0.8, angle=1.001),
        signals("new", 0.3, 0.2, angle=-1.2),
    ]
    known = [np.array([1, 0], np.float32)]
    first = choose_next(pool, known, 4)
    assert first[0].image_id == "doubtful"
    # First of four, first of four, third of four.
    assert first[0].total == pytest.approx((1 + 1 + 1 / 3) / 3)
    # Its twin is as doubtful, but is nothing new any more.
    assert [one.image_id for one in first[1:]] == ["doubtful twin", "new", "certain"]
    assert first[1].novelty < 1e-5
    by_novelty = choose_next(pool, known, 2, GainWeights(0, 0, 1))
    assert [one.image_id for one in by_novelty] == ["new", "doubtful twin"]
    by_error = choose_next(pool, known, 1, GainWeights(0, 1, 0))
    assert (by_error[0].image_id, by_error[0].total) == ("doubtful", 1)


def test_equal_pictures_come_in_the_order_of_their_ids() -> None:
    pool = [signals(name, 0.5, 0.5) for name in ("b", "c", "a")]
    assert [one.image_id for one in choose_next(pool, [], 5)] == ["a", "b", "c"]


def test_blank_pictures_come_last_whatever_counts() -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    black = np.zeros((48, 64), np.uint8)
    assert shows_nothing(black)
    assert shows_nothing(np.full((4, 5, 3), (7, 8, 9)))
    assert not shows_nothing(picture_of(discs()))
    pool = [
        measure_signals(model, "black", encode_image(model, black), is_blank=True),
        *(
            measure_signals(model, name, encode_image(model, picture_of(discs(seed))))
            for seed, name in enumerate(("seen", "twin"))
        ),
    ]
    known = [pool[1].vector]
    for weights in (None, GainWeights(0, 0, 1), GainWeights(0, 1, 0), GainWeights(1, 0, 0)):
        chosen = choose_next(pool, known, 3, weights)
        assert (chosen[-1].image_id, chosen[-1].total) == ("black", 0)
    assert [one.image_id for one in choose_next(pool[:1], known)] == ["black"]


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        choose_next([signals("a", 0, 0)], [], 0)
    with pytest.raises(ValueError, match="weights must be 0 or more and one of them above"):
        GainWeights(0, 0, 0)
    with pytest.raises(ValueError, match="got 1, -1, 1"):
        GainWeights(1, -1, 1)


@pytest.mark.parametrize("config", [TINY_PYRAMID, TINY_VIT], ids=["instance decoder", "grid"])
def test_a_model_is_asked_about_a_picture(config: object) -> None:
    model = make_model(config, "tiny")  # type: ignore[arg-type]
    embedding = encode_image(model, picture_of(discs()))
    points = promising_points(model, embedding, 5)
    assert len(points) <= 5
    assert ((points >= 0) & (points <= [63, 47])).all()
    found = measure_signals(model, "a", embedding, max_prompts=5)
    assert found.prompts == len(points)
    assert 0 <= found.disagreement <= 1
    assert 0 <= found.expected_error <= 1
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)


def test_the_padding_is_not_pooled() -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    embedding = encode_image(model, picture_of(discs())[:24])  # much wider than high
    rows = embedding.features.shape[-2]
    valid = -(-embedding.input_size_hw[0] * rows // embedding.padded_size_hw[0])
    assert valid < rows
    mean = embedding.features[0, :, :valid].mean(dim=(1, 2)).numpy()
    assert np.allclose(pooled_embedding(embedding), mean / np.linalg.norm(mean), atol=1e-5)
