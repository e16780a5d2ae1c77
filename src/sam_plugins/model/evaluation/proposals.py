"""Object proposals: how many objects are among the first 10, 100 or 1000 masks, whatever they are.

The protocol of Segment Anything (Kirillov et al. 2023, section 7.3) with the measure of COCO: a
grid of points, all masks of all points, duplicates removed, the rest ordered by the mean of
predicted IoU and stability. Average recall (AR) is the share of the objects that a proposal finds,
averaged over the IoU thresholds .50, .55, ..., .95; classes play no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.evaluation.automatic import otsu_watershed
from sam_plugins.model.evaluation.coco_matching import (
    AREA_RANGES,
    mask_ious,
    match_in_order,
    outside,
)
from sam_plugins.model.evaluation.mask_grid import grid_masks
from sam_plugins.model.evaluation.single_point import chosen_objects
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.io.labelled import LabelledImage

COUNTS = (10, 100, 1000)
"""Proposals that are looked at."""

GRID_POINTS = 32
"""Points along each side. The paper takes 64, four times the work."""

MAX_IOU = 0.9
"""Of two proposals that are no duplicates: more alike than objects of one label image may be."""


class Proposer(Protocol):
    """What proposes objects."""

    def __call__(self, image: NDArray[Any]) -> Sequence[WindowMask]:
        """Return masks of a picture as it comes from a file, the most likely object first."""
        ...


@dataclass(frozen=True)
class GridProposer:
    """Propose the masks of a grid of points.

    Parameters
    ----------
    model : Model
    points_per_side : int
    """

    model: Model
    points_per_side: int = GRID_POINTS

    def __call__(self, image: NDArray[Any]) -> list[WindowMask]:
        """Return at most 1000 masks, best first."""
        embedding = encode_image(self.model, image)
        masks = grid_masks(self.model, embedding, self.points_per_side, max_iou=MAX_IOU)
        drawn = masks.draw()
        return [mask for mask, _ in zip(drawn, range(max(COUNTS)), strict=False)]


def floor_proposals(image: NDArray[Any]) -> list[WindowMask]:
    """Propose the pieces of Otsu's threshold and a watershed, the largest first."""
    labels = otsu_watershed(image)
    order = np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")
    windows = ndimage.find_objects(labels)
    return [
        WindowMask(windows[index], labels[windows[index]] == index + 1)
        for index in order[: max(COUNTS)].tolist()
    ]


@dataclass(frozen=True, slots=True)
class ProposalScore:
    """How one object was found among the proposals.

    Attributes
    ----------
    set_name, image_id : str
        The picture.
    object_id, area : int
        Label and pixels of the object.
    n_proposals : int
        Masks that were proposed for the picture, 1000 at most.
    best_iou : float
        IoU of the best proposal.
    recalls : mapping of (str, int) to float
        By range of sizes and number of proposals: at which share of the IoU thresholds the object
        is found; only of ranges that the object is in.
    ranks : tuple of int or None
        At each IoU threshold, the place of the proposal that finds it, from 1.
    """

    set_name: str
    image_id: str
    object_id: int
    area: int
    n_proposals: int
    best_iou: float
    recalls: Mapping[tuple[str, int], float]
    ranks: tuple[int | None, ...]

    def recall(self, count: int, size: str = "all") -> float:
        """Return the share of thresholds at which it is found; NaN where it is of another size."""
        return self.recalls.get((size, count), float("nan"))


def score_proposals(image: LabelledImage, masks: Sequence[WindowMask]) -> list[ProposalScore]:
    """Return how each object of a picture was found among masks, best first."""
    objects = chosen_objects(image, None, 0)
    if not objects:
        return []
    counted = None if image.ignore is None else ~image.ignore
    ious = mask_ious(masks[: max(COUNTS)], objects, counted=counted)
    areas = np.array([one.area for one in objects], np.int64)
    matches = {size: match_in_order(ious, outside(areas, size)) for size in AREA_RANGES}
    return [
        ProposalScore(
            set_name=image.set_name,
            image_id=image.id,
            object_id=one.object_id,
            area=one.area,
            n_proposals=len(ious),
            best_iou=float(ious[:, index].max(initial=0)),
            recalls={
                (size, count): float((matches[size][:, index] < count).mean())
                for size in AREA_RANGES
                if not outside(areas[index : index + 1], size)[0]
                for count in COUNTS
            },
            ranks=tuple(
                int(rank) + 1 if rank < len(ious) else None for rank in matches["all"][:, index]
            ),
        )
        for index, one in enumerate(objects)
    ]
