"""From words to masks, measured against chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sam_plugins.model.evaluation.text_to_mask import (
    PhrasedImage,
    PhraseScore,
    evaluate_text_to_mask,
    summarise_text,
)

LABELS = np.array([[1, 1, 0, 2], [3, 0, 0, 4]])
NAMES = {1: "cat", 2: "dog", 3: "cat"}


def image(**changes: Any) -> PhrasedImage:
    values: dict[str, Any] = {"id": "a", "image": LABELS, "labels": LABELS, "phrase_of": NAMES}
    return PhrasedImage.from_labels(**{**values, **changes})


def test_objects_of_one_phrase_are_one_mask() -> None:
    masks = image().masks
    assert sorted(masks) == ["cat", "dog"]
    assert masks["cat"].tolist() == [[True, True, False, False], [True, False, False, False]]
    assert "x" not in image(phrase_of={9: "x", 1: "cat"}).masks


def test_a_perfect_finder_and_one_that_does_not_listen() -> None:
    one = image()
    perfect = list(evaluate_text_to_mask(lambda _, asked: [one.masks[p] for p in asked], [one]))
    assert [(s.phrase, s.iou, s.chance, s.found) for s in perfect] == [
        ("cat", 1, 0, True),
        ("dog", 1, 0, True),
    ]
    everything = np.ones(LABELS.shape, bool)
    deaf = list(evaluate_text_to_mask(lambda _, asked: [everything] * len(asked), [one]))
    assert [(s.iou, s.chance) for s in deaf] == [(3 / 8, 3 / 8), (1 / 8, 1 / 8)]
    silent = list(evaluate_text_to_mask(lambda _, asked: [~everything] * len(asked), [one]))
    assert [(s.iou, s.found) for s in silent] == [(0, False), (0, False)]


def test_what_is_ignored_is_not_asked_for() -> None:
    ignore = np.array([[False, False, False, True], [False, True, False, False]])
    asked: list[Sequence[str]] = []

    def finder(_: Any, phrases: Sequence[str]) -> list[Any]:
        asked.append(phrases)
        found = np.zeros(LABELS.shape, bool)
        found[0, :2] = found[1, :2] = True
        return [found] * len(phrases)

    scores = list(evaluate_text_to_mask(finder, [image(ignore=ignore), image(phrase_of={})]))
    assert asked == [["cat"]]
    assert scores[0].iou == 1
    assert np.isnan(scores[0].chance)


def test_a_finder_must_answer_every_phrase() -> None:
    with pytest.raises(ValueError, match="one mask for each of 2 phrases of a, got 1"):
        list(evaluate_text_to_mask(lambda *_: [LABELS > 0], [image()]))


def test_every_phrase_counts_once() -> None:
    scores = [
        PhraseScore("a", "cat", 1.0, 0.2, found=True),
        PhraseScore("b", "cat", 0.5, float("nan"), found=True),
        PhraseScore("a", "dog", 0.25, 0.4, found=False),
    ]
    found = summarise_text(scores)
    assert found.iou.mean == pytest.approx(0.5)
    assert found.chance.mean == pytest.approx(0.3)
    assert found.by_phrase["cat"] == (0.75, 0.2, 2)
    assert found.n_pictures == 2
    alone = summarise_text([PhraseScore("a", "cat", 1.0, float("nan"), found=True)])
    assert np.isnan(alone.chance.mean)
    with pytest.raises(ValueError, match="at least one phrase to measure, got none"):
        summarise_text([])
