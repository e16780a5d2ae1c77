"""Masks are mended, compete for pixels and are suppressed, as the options say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from tests.model.inference.label_reader import (
    AS_IT_IS,
    Answers,
    LabelReader,
    discs,
    ious_of_pairs,
    model_of,
)

from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.label_image import LabelOptions
from sam_plugins.model.inference.segment_options import AUTO, GRID, SegmentOptions
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.large.whole import segment


def flawed_answers(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return the object with a hole, and with an island at the picture's upper left corner."""
    flawed = mask.copy()
    middle_y, middle_x = np.argwhere(mask).mean(axis=0).astype(int)
    flawed[middle_y - 3 : middle_y + 3, middle_x - 3 : middle_x + 3] = False
    flawed[:6, :6] = True
    return [(flawed, 0.95)] * 3


def test_holes_and_islands_of_masks_are_mended_unless_switched_off() -> None:
    picture = discs((96, 160), [(50, 50, 24), (110, 50, 24)])
    model = model_of(LabelReader(flawed_answers))
    found = segment(picture, model, limits=AS_IT_IS)
    assert ious_of_pairs(picture, found.labels).min() > 0.95
    assert not found.labels[:6, :6].any()
    as_answered = replace(AUTO, labels=LabelOptions(hole_share=0, island_share=0))
    raw = segment(picture, model, limits=AS_IT_IS, options=as_answered)
    assert raw.labels[2, 2] > 0
    assert raw.labels[50, 50] == raw.labels[50, 110] == 0


def answers_with_a_middle(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return the object, and its middle as another one."""
    middle = ndimage.binary_erosion(mask, iterations=12)
    return [(mask, 0.95), (middle, 0.93), (np.zeros_like(mask), 0.5)]


def test_who_wins_an_overlap_is_a_choice() -> None:
    picture = discs((96, 96), [(48, 48, 30)])
    model = model_of(LabelReader(answers_with_a_middle))

    def found(**changes: object) -> Segmentation:
        options = replace(GRID, points_per_side=8, **changes)  # type: ignore[arg-type]
        return segment(picture, model, mode="grid", limits=AS_IT_IS, options=options)

    smaller = found()
    assert len(smaller) == 2
    assert smaller.labels[48, 48] == 2  # the whole has the better score, and label 1
    assert smaller.labels[48, 24] == 1
    assert len(found(overlap="score")) == 1  # nothing is left of the middle
    nested = found(max_containment=0.75)
    assert len(nested) == 1
    assert nested.labels[48, 48] == nested.labels[48, 24] == 1


def test_suppression_can_be_switched_off() -> None:
    picture = discs((96, 96), [(48, 48, 30)])
    everything = SegmentOptions(
        masks=MaskFilter(0.5, 0, best_per_point=False),
        asks_with="point",
        max_iou=1,
        max_containment=1,
        labels=LabelOptions(0, 0, 0, min_visible=0),
        overlap="smaller",
    )
    found = segment(picture, model_of(LabelReader()), limits=AS_IT_IS, options=everything)
    assert len(found) == 3  # the part, what the object adds to it, and what is around
    assert found.labels[48, 30] != found.labels[48, 66]


def test_the_box_of_what_the_maps_see_around_a_point_asks() -> None:
    picture = discs((96, 128), [(30, 40, 20), (90, 60, 12)])
    reader = LabelReader()
    assert len(segment(picture, model_of(reader), limits=AS_IT_IS, options=AUTO)) == 2
    found = sorted(box.tolist() for box in reader.boxes)
    for box, truth in zip(found, ([10, 20, 50, 60], [78, 48, 102, 72]), strict=True):
        np.testing.assert_allclose(box, truth, atol=6)  # To a cell and a half.
    without = LabelReader()
    options = replace(AUTO, asks_with="point")
    segment(picture, model_of(without), limits=AS_IT_IS, options=options)
    assert not without.boxes
