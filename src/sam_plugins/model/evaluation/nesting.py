"""Whether the masks of one point are both a whole and its part, where the truth has both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sam_plugins.model.evaluation.object_ious import measure_ious, shared_pixels
from sam_plugins.model.evaluation.prompts import TrueObject
from sam_plugins.model.evaluation.single_point import (
    Embedding,
    PromptableModel,
    check_max_objects,
    chosen_objects,
)
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.io.labelled import LARGEST_PART, PART_INSIDE, LabelledImage

FOUND_IOU = 0.5


@dataclass(frozen=True)
class NestedScore:
    """What the masks of one point in a part have of it and of its whole.

    Attributes
    ----------
    set_name, image_id : str
    whole_id, part_id : int
        Labels of the two.
    point_x, point_y : int
        The part's centre point.
    whole_iou, part_iou : float
        Best IoU of any mask with each.
    lesser_iou : float
        The smaller one of both IoUs for two different masks, as good as these can be chosen.
    """

    set_name: str
    image_id: str
    whole_id: int
    part_id: int
    point_x: int
    point_y: int
    whole_iou: float
    part_iou: float
    lesser_iou: float

    @property
    def has_both(self) -> bool:
        """Whether one of the masks is the whole and another one the part."""
        return self.lesser_iou > FOUND_IOU


def nested_pairs(objects: Sequence[TrueObject]) -> Iterator[tuple[TrueObject, TrueObject]]:
    """Yield each whole with each of its parts: at most half as large, and nearly all within it.

    Parameters
    ----------
    objects : sequence of TrueObject
        Of one picture, with whole masks where others cover an object.
    """
    for whole in objects:
        for part in objects:
            if part.area <= LARGEST_PART * whole.area:
                shared = shared_pixels(whole.window, whole.mask, part.window, part.mask)
                if shared >= PART_INSIDE * part.area:
                    yield whole, part


def evaluate_nesting(
    model: PromptableModel[Embedding],
    image: LabelledImage,
    *,
    max_pairs: int | None = None,
    seed: int = 0,
) -> list[NestedScore]:
    """Ask with a point in each part of a picture for its several masks.

    Segment Anything's three masks should be whole, part and subpart (Kirillov et al. 2023, section
    3), so that a point that lies in two nested objects has both among its masks.

    Parameters
    ----------
    model : PromptableModel
    image : LabelledImage
        With whole masks of objects that others cover, see
        :attr:`~sam_plugins.model.io.labelled.LabelledImage.whole_masks`.
    max_pairs : int, optional
        At most so many, drawn at random; all by default.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        If ``max_pairs`` is below 1.
    """
    check_max_objects(max_pairs)
    pairs = list(nested_pairs(chosen_objects(image, None, seed)))
    if max_pairs is not None and len(pairs) > max_pairs:
        drawn = np.random.default_rng(seed).choice(len(pairs), max_pairs, replace=False)
        pairs = [pairs[index] for index in sorted(drawn)]
    if not pairs:
        return []
    wholes, parts = [one for one, _ in pairs], [one for _, one in pairs]
    with torch.inference_mode():
        embedding = model.encode(image.image)
        points = np.array([part.point_xy for part in parts], np.float32)
        logits = model.predict_points(embedding, points).logits.float().cpu().numpy()
    sizes = SizeChain(
        (logits.shape[2], logits.shape[3]),
        embedding.padded_size_hw,
        embedding.input_size_hw,
        embedding.original_size_hw,
    )
    counted = None if image.ignore is None else ~image.ignore
    of_whole, of_part = (
        measure_ious(logits, which, sizes, counted=counted) for which in (wholes, parts)
    )
    lesser = np.minimum(of_whole[:, :, None], of_part[:, None, :])  # (N, C, C)
    lesser[:, np.eye(logits.shape[1], dtype=bool)] = 0.0  # one mask is not both
    return [
        NestedScore(
            image.set_name,
            image.id,
            whole.object_id,
            part.object_id,
            *part.point_xy,
            whole_iou=float(of_whole[index].max()),
            part_iou=float(of_part[index].max()),
            lesser_iou=float(lesser[index].max()),
        )
        for index, (whole, part) in enumerate(pairs)
    ]
