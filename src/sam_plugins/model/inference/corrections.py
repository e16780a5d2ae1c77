"""A correction changes what it asks for, and little else.

A decoder answers all clicks anew each time. With many clicks, more than it met in training, the
mask wavers far from the last one: what had been right is lost, and must be clicked again. Here an
answer to a correction is held against the mask that it corrects. Where the two differ, the pieces
with a click that the earlier mask had ignored become as the answer has them; all the rest moves a
part of the way only, so that a slip is not seen, and what every answer says comes through in the
end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW, points_to_input
from sam_plugins.model.inference.prompts import PADDING, POSITIVE, Prompts

FloatArray = npt.NDArray[np.float32]

ELSEWHERE = 0.3
"""Part of the way that logits go where no new click asked for it; docs/how-to/evaluate.md."""

_CELL = 4  # input pixels along a cell of the low-resolution masks


def can_correct(prompts: Prompts) -> bool:
    """Return whether there are points and the logits of earlier masks."""
    return prompts.mask_logits is not None and prompts.points_xy is not None


def steadied(
    answer: FloatArray,
    prompts: Prompts,
    original_size_hw: SizeHW,
    input_size_hw: SizeHW,
    *,
    elsewhere: float = ELSEWHERE,
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
    elsewhere : float
        0 to 1: how far logits go towards the answer where no click asked for it.

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
    cells = np.floor((points_to_input(points, original_size_hw, input_size_hw) + 0.5) / _CELL)
    cells = np.clip(cells, 0, (width - 1, height - 1)).astype(np.int64)
    result = answer.copy()
    for now, before, places, kinds in zip(result[:, 0], earlier[:, 0], cells, labels, strict=True):
        columns, rows = places[kinds != PADDING].T
        is_positive = kinds[kinds != PADDING] == POSITIVE
        is_ignored = (before[rows, columns] > 0) != is_positive
        if not (has_more or len(rows) > 1 or is_ignored.any()):
            continue
        is_news = is_ignored & ((now[rows, columns] > 0) == is_positive)
        pieces, count = ndimage.label((before > 0) != (now > 0))
        is_asked = np.zeros(count + 1, bool)
        is_asked[pieces[rows, columns][is_news]] = True
        part = np.where(is_asked[pieces], np.float32(1), np.float32(elsewhere))
        now[...] = before + part * (now - before)
    return result
