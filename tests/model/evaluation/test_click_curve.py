"""Where a person would click, and how many clicks an object takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sam_plugins.model.evaluation.click_curve import (
    Click,
    ClickScore,
    Dialogue,
    evaluate_clicks,
    falling_clicks,
    next_click,
)
from sam_plugins.model.evaluation.single_point import LowResMasks
from sam_plugins.model.io.labelled import LabelledImage


class Painter:
    """Paints a disc around every click, and remembers what it was asked."""

    original_size_hw = input_size_hw = padded_size_hw = (48, 64)

    def __init__(self, radius: float) -> None:
        self.radius = radius
        self.dialogues: list[Dialogue] = []

    def encode(self, image: np.ndarray) -> Painter:
        return self

    def predict_points(self, embedding: Any, points_xy: np.ndarray) -> LowResMasks:
        raise NotImplementedError

    predict_boxes = predict_points

    def answer(self, embedding: Any, dialogue: Dialogue) -> LowResMasks:
        self.dialogues.append(dialogue)
        rows, columns = np.indices((48, 64))
        inside = np.zeros((48, 64), bool)
        if dialogue.box_xyxy is not None:
            x0, y0, x1, y1 = dialogue.box_xyxy
            inside |= (columns >= x0) & (columns <= x1) & (rows >= y0) & (rows <= y1)
        for click in dialogue.clicks:
            disc = (columns - click.x) ** 2 + (rows - click.y) ** 2 <= self.radius**2
            inside = inside | disc if click.is_positive else inside & ~disc
        logits = torch.from_numpy(np.where(inside, 4.0, -4.0).astype(np.float32))
        return LowResMasks(logits[None, None], torch.ones(1, 1))


def one_object(image_of: Callable[..., LabelledImage]) -> LabelledImage:
    labels = np.zeros((48, 64), np.int64)
    labels[10:20, 8:48] = 1  # 10 high, 40 wide
    return image_of(labels)


def test_the_larger_error_is_clicked_far_from_its_border() -> None:
    wanted, found = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    wanted[2:9, 2:9] = True  # missing: 7 by 7
    found[10:19, 15:24] = True  # false: 9 by 9
    assert next_click(wanted, found) == Click(19, 14, is_positive=False)
    found[17:19, 15:24] = False  # as deep as what is missing
    assert next_click(wanted, found) == Click(18, 13, is_positive=False)
    found[16:19, 15:24] = False
    assert next_click(wanted, found) == Click(5, 5, is_positive=True)


def test_a_pixel_is_clicked_once_and_what_is_not_known_never() -> None:
    wanted = np.zeros((9, 9), bool)
    wanted[2:7, 2:7] = True
    first = next_click(wanted, np.zeros_like(wanted))
    assert first == Click(4, 4, is_positive=True)
    second = next_click(wanted, np.zeros_like(wanted), [first])
    assert second is not None
    assert second != first
    counted = np.ones_like(wanted)
    counted[2:7, 2:7] = False
    assert next_click(wanted, np.zeros_like(wanted), (), counted) is None
    assert next_click(wanted, wanted) is None


def test_clicks_add_up_until_the_object_is_whole(image_of: Callable[..., LabelledImage]) -> None:
    model = Painter(radius=7)
    (score,) = evaluate_clicks(model, [one_object(image_of)])
    assert len(score.ious) == 20
    assert score.ious[0] < 0.4 < score.ious[3]
    # Everything said so far, with the last logits, each time.
    assert [len(dialogue.clicks) for dialogue in model.dialogues] == list(range(1, 21))
    assert model.dialogues[0].logits is None
    assert all(dialogue.logits is not None for dialogue in model.dialogues[1:])
    assert model.dialogues[0].clicks[0].is_positive
    assert (score.set_name, score.object_id, score.area) == ("s", 1, 400)


def test_a_session_ends_when_it_is_good_enough(image_of: Callable[..., LabelledImage]) -> None:
    model = Painter(radius=7)
    (score,) = evaluate_clicks(model, [one_object(image_of)], enough=0.3)
    assert len(model.dialogues) == len(score.ious) < 4
    assert score.ious[-1] >= 0.3


def test_a_perfect_box_needs_no_click(image_of: Callable[..., LabelledImage]) -> None:
    model = Painter(radius=7)
    (score,) = evaluate_clicks(model, [one_object(image_of)], from_box=True)
    assert score.box_iou == 1
    assert score.ious == (1.0,)
    assert score.noc90 == 0
    assert len(model.dialogues) == 1


def test_figures_of_a_score() -> None:
    score = ClickScore("cells", "1", 1, 9, (0.5, 0.8, 0.86, 0.86))
    assert (score.noc85, score.noc90) == (3, 20)
    figures = (score.iou_1, score.iou_2, score.iou_3, score.iou_5, score.iou_10, score.iou_20)
    assert figures == (0.5, 0.8, 0.86, 0.86, 0.86, 0.86)


def test_clicks_that_lower_the_mean_are_found() -> None:
    scores = [ClickScore("a", "1", 1, 9, (0.5, 0.4, 0.9)), ClickScore("a", "1", 2, 9, (0.5, 0.5))]
    assert falling_clicks(scores) == [2]
    assert falling_clicks([]) == []


def test_ignored_pixels_count_on_no_side(image_of: Callable[..., LabelledImage]) -> None:
    ignore = np.ones((48, 64), bool)
    ignore[10:20, 8:16] = False
    image = one_object(image_of)
    image = image_of(image.labels, ignore=ignore)
    # All that is known of the object is within the first disc: nothing is left to correct.
    (score,) = evaluate_clicks(Painter(radius=22), [image])
    assert score.ious == (1.0,)


def test_one_object_is_asked_for_at_least() -> None:
    with pytest.raises(ValueError, match="max_objects must be 1 or more, or None for all, got 0"):
        list(evaluate_clicks(Painter(7), [], max_objects=0))
