"""A person played by ground truth: what is accepted, corrected, deleted, added, and each click."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sam_plugins.model.engine import simulated_annotator
from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.engine.simulated_annotator import (
    AnnotatedPicture,
    AnnotatorOptions,
    Outcome,
    annotate,
)
from sam_plugins.model.evaluation.click_curve import Click, Dialogue
from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.io.rle import decode_mask

SIZE = (16, 24)
SQUARE = (slice(2, 8), slice(2, 8))
BAR = (slice(10, 14), slice(4, 20))


class Model:
    """Answers with the true object under the last click or in the box, after some clicks."""

    def __init__(self, labels: np.ndarray, clicks_needed: int = 1) -> None:
        self.labels, self.clicks_needed = labels, clicks_needed
        self.asked: list[Dialogue] = []

    def answer(self, embedding: Any, dialogue: Dialogue) -> LowResMasks:
        self.asked.append(dialogue)
        if dialogue.box_xyxy is not None:
            x, y = np.array(dialogue.box_xyxy).reshape(2, 2).mean(axis=0).astype(int)
        else:
            x, y = dialogue.clicks[-1][:2]
        mask = self.labels == self.labels[y, x]
        if len(dialogue.clicks) < self.clicks_needed:
            mask = np.zeros_like(mask)
            mask[y, x] = True
        return self.masks([mask])

    def predict_points(self, embedding: Any, points_xy: np.ndarray) -> LowResMasks:
        # The second one is what was proposed: the upper half of the square.
        half = np.zeros(SIZE, bool)
        half[2:6, 2:8] = True
        return self.masks([np.ones(SIZE, bool), half, np.zeros(SIZE, bool)])

    @staticmethod
    def masks(masks: list[np.ndarray]) -> LowResMasks:
        logits = torch.from_numpy(np.stack(masks)[None] * 20.0 - 10.0).float()
        return LowResMasks(logits, torch.ones(1, len(masks)))


@pytest.fixture
def labels() -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint16)
    drawn[SQUARE] = 1
    drawn[BAR] = 7
    return drawn


@pytest.fixture
def model(labels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Model:
    asked = Model(labels)
    monkeypatch.setattr(simulated_annotator, "LoadedModel", lambda model: asked)
    return asked


def proposal(rows: slice, columns: slice, xy: tuple[float, float], score: float = 0.9) -> Proposal:
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    return Proposal(WindowMask((rows, columns), np.ones(shape, bool)), score, xy)


def run(
    labels: np.ndarray,
    proposals: list[Proposal],
    options: AnnotatorOptions | None = None,
    **image: Any,
) -> AnnotatedPicture:
    sizes = dict.fromkeys(
        ("low_res_hw", "padded_size_hw", "input_size_hw", "original_size_hw"), SIZE
    )
    picture = LabelledImage("a", np.zeros(SIZE), labels, **image)
    return annotate(None, picture, SimpleNamespace(**sizes), proposals, options)  # type: ignore[arg-type]


def test_a_good_proposal_costs_nothing(labels: np.ndarray, model: Model) -> None:
    done = run(labels, [proposal(*SQUARE, (4, 4)), proposal(*BAR, (9, 12), 0.7)])
    assert [one.outcome for one in done.objects] == [Outcome.UNTOUCHED] * 2
    assert (done.clicks, done.deleted) == (0, 0)
    assert [(one.true_id, one.score, one.iou) for one in done.objects] == [
        (1, 0.9, 1),
        (7, 0.7, 1),
    ]
    assert model.asked == []


def test_a_missing_object_is_clicked_in_its_middle(labels: np.ndarray, model: Model) -> None:
    done = run(labels, [proposal(*SQUARE, (4, 4))])
    (missing,) = [one for one in done.objects if one.outcome == Outcome.ADDED]
    assert (missing.true_id, missing.clicks, missing.score) == (7, 1, None)
    (click,) = missing.dialogue.clicks
    assert click.is_positive
    assert labels[click.y, click.x] == 7
    assert np.array_equal(decode_mask(missing.rle), labels == 7)


def test_a_box_costs_two_clicks(labels: np.ndarray, model: Model) -> None:
    model.clicks_needed = 0
    done = run(labels, [], AnnotatorOptions(first="box"))
    assert [one.clicks for one in done.objects] == [2, 2]
    assert done.objects[1].dialogue.box_xyxy == (4, 10, 19, 13)


def test_a_false_proposal_costs_a_click(labels: np.ndarray, model: Model) -> None:
    nothing = proposal(slice(0, 4), slice(18, 24), (20, 2))
    done = run(labels, [proposal(*SQUARE, (4, 4)), proposal(*BAR, (9, 12)), nothing])
    assert (done.deleted, done.clicks) == (1, 1)
    # Of a picture that is not labelled completely, nobody knows that it is false.
    assert run(labels, [nothing], complete=False).deleted == 0
    ignore = np.zeros(SIZE, bool)
    ignore[:5, 17:] = True
    assert run(labels, [nothing], ignore=ignore).deleted == 0


def test_a_bad_proposal_is_corrected_where_the_error_is_largest(
    labels: np.ndarray, model: Model
) -> None:
    model.clicks_needed = 2  # the seed, and a click
    half = proposal(slice(2, 6), slice(2, 8), (4, 3))
    done = run(labels, [half, proposal(*BAR, (9, 12))])
    corrected = done.objects[0]
    assert (corrected.outcome, corrected.clicks, done.clicks) == (Outcome.CORRECTED, 1, 1)
    seed, click = corrected.dialogue.clicks
    assert seed == Click(4, 3, is_positive=True)
    assert click.is_positive
    assert 6 <= click.y < 8
    # The person's click goes on from the answer that was nearest to the proposal.
    (asked,) = model.asked
    assert asked.logits is not None
    assert torch.count_nonzero(asked.logits > 0) == 24
    assert np.array_equal(decode_mask(corrected.rle), labels == 1)


def test_what_the_model_does_not_learn_is_drawn(labels: np.ndarray, model: Model) -> None:
    model.clicks_needed = 99
    options = AnnotatorOptions(max_clicks=3, drawing_clicks=5)
    done = run(labels, [proposal(*SQUARE, (4, 4))], options)
    (drawn,) = [one for one in done.objects if one.outcome == Outcome.DRAWN]
    assert (drawn.clicks, drawn.iou, done.clicks) == (8, 1, 8)
    assert len(model.asked) == 3
    assert len({(one.x, one.y) for one in model.asked[-1].clicks}) == 3  # never the same twice
    assert np.array_equal(decode_mask(drawn.rle), labels == 7)


def test_how_good_is_good_enough(labels: np.ndarray, model: Model) -> None:
    nearly = [proposal(slice(2, 8), slice(2, 7), (4, 4)), proposal(*BAR, (9, 12))]  # IoU 5/6
    assert run(labels, nearly).objects[0].outcome == Outcome.CORRECTED
    lenient = run(labels, nearly, AnnotatorOptions(accept_iou=0.8)).objects[0]
    assert (lenient.outcome, lenient.iou) == (Outcome.UNTOUCHED, pytest.approx(5 / 6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"match_iou": 0.4}, "must lie between 0.5 and 1 in this order, got 0.4 and 0.85"),
        ({"max_clicks": 0}, "max_clicks must be 1 or more"),
        ({"first": "text"}, "first must be 'point' or 'box', got 'text'"),
    ],
)
def test_impossible_persons_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnotatorOptions(**values)
