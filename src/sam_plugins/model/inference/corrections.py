"""A correction changes what it asks for, and little else.

A decoder answers all clicks anew each time. With many clicks, more than it met in training, the
mask wavers far from the last one: what had been right is lost, and must be clicked again. Here an
answer to a correction is held against the mask that it corrects:

- Where the two differ, a piece with a click that the earlier mask had ignored becomes as the answer
  has it, as far around the click as twice its distance from the earlier mask's border: people click
  in the middle of what is wrong.
- All the rest moves a part of the way only, the less the more was said, so that a slip is not seen,
  and what every answer says comes through in the end.
- A click that the earlier mask followed stays followed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import CELL, SizeHW, points_to_input
from sam_plugins.model.inference.prompts import PADDING, POSITIVE, Prompts

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

ELSEWHERE = 0.3
"""Part of the way that logits go at most where no new click asked for it."""

ELSEWHERE_OF_ALL = 1.5
"""The same, divided by the number of points: less from the sixth on."""

REACH = 2.0
"""How far around a click the answer counts, in distances of the click from the mask's border."""

_LEAST_REACH = 2.0  # cells


def can_correct(prompts: Prompts) -> bool:
    """Return whether there are points and the logits of earlier masks."""
    return prompts.mask_logits is not None and prompts.points_xy is not None


def steadied(
    answer: FloatArray, prompts: Prompts, original_size_hw: SizeHW, input_size_hw: SizeHW
) -> FloatArray:
    """Hold answers to corrections against the masks that they correct.

    A lone point that the earlier mask follows already, and nothing else, corrects nothing: such an
    answer, a second look at the first, stays as it is.

    Parameters
    ----------
    answer : ndarray of shape (N, 1, h, w), float32
        Low-resolution logits of a decoder.
    prompts : Prompts
        Of the N objects, with points and with the logits of the earlier masks.
    original_size_hw, input_size_hw : (int, int)
        Height and width of the picture and of the network's input without its padding.

    Returns
    -------
    ndarray of shape (N, 1, h, w), float32
    """
    earlier, points, labels = prompts.mask_logits, prompts.points_xy, prompts.point_labels
    assert earlier is not None
    assert points is not None
    assert labels is not None
    height, width = answer.shape[-2:]
    has_more = prompts.boxes_xyxy is not None or prompts.text_embeddings is not None
    cells = np.floor((points_to_input(points, original_size_hw, input_size_hw) + 0.5) / CELL)
    cells = np.clip(cells, 0, (width - 1, height - 1)).astype(np.int64)
    result = answer.copy()
    for index, (places, kinds) in enumerate(zip(cells, labels, strict=True)):
        is_point = kinds != PADDING
        before = earlier[index, 0]
        rows, columns = places[is_point, 1], places[is_point, 0]
        is_positive = kinds[is_point] == POSITIVE
        is_ignored = (before[rows, columns] > 0) != is_positive
        if has_more or len(rows) > 1 or is_ignored.any():
            result[index, 0] = _held(before, answer[index, 0], (rows, columns), is_positive)
    return result


def _held(
    before: FloatArray, answer: FloatArray, cells: tuple[IntArray, IntArray], is_positive: BoolArray
) -> FloatArray:
    """Hold one answer (h, w) against the mask before it."""
    was_followed = (before[cells] > 0) == is_positive
    is_news = ~was_followed & ((answer[cells] > 0) == is_positive)
    elsewhere = min(ELSEWHERE, ELSEWHERE_OF_ALL / len(is_positive))
    part = np.full(before.shape, elsewhere, np.float32)
    if is_news.any():
        pieces, _ = ndimage.label((before > 0) != (answer > 0))
        for row, column in zip(cells[0][is_news], cells[1][is_news], strict=True):
            is_asked = (pieces == pieces[row, column]) & _around(before > 0, row, column)
            part[is_asked] = 1
    held: FloatArray = before + part * (answer - before)
    is_lost = was_followed & ((held[cells] > 0) != is_positive)
    for row, column in zip(cells[0][is_lost], cells[1][is_lost], strict=True):
        beside = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        held[beside] = before[beside]
    return held


def _around(mask: BoolArray, row: np.int64, column: np.int64) -> BoolArray:
    """Return the cells within reach of a click; all of them where a mask has no border."""
    other_rows, other_columns = np.nonzero(mask != mask[row, column])
    if not other_rows.size:
        return np.ones(mask.shape, bool)
    depth_squared = ((other_rows - row) ** 2 + (other_columns - column) ** 2).min()
    reach_squared = max(REACH**2 * float(depth_squared), _LEAST_REACH**2)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    near: BoolArray = (y - row) ** 2 + (x - column) ** 2 <= reach_squared
    return near
