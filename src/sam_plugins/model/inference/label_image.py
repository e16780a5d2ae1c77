"""From overlapping masks to a label image: who wins an overlap, and what remains of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.postprocess import clean_mask

Overlap = Literal["score", "smaller"]
"""Who owns a pixel that several masks claim: the best mask, or the smallest."""

OVERLAPS: tuple[Overlap, ...] = ("score", "smaller")


@dataclass(frozen=True)
class LabelOptions:
    """How masks share a picture.

    Parameters
    ----------
    hole_share : float
        Holes smaller than this share of their object are filled; 0 leaves them.
    island_share : float
        Pieces smaller than this share of their object's largest one are dropped; 0 leaves them.
    min_area : int
        Objects of fewer pixels are dropped.
    min_visible : float
        Objects are dropped when others cover all but this share of them.
    """

    hole_share: float = 0.1
    island_share: float = 0.1
    min_area: int = 10
    min_visible: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("hole_share", "island_share", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.min_area < 0:
            raise ValueError(f"min_area must be 0 or more, got {self.min_area}")


class Painted(NamedTuple):
    """A label image, and which of the masks each label came from.

    ``labels`` is (H, W) int32; label ``i + 1`` came from mask ``sources[i]``.
    """

    labels: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int64]


def paint_labels(
    masks: Iterable[WindowMask], size_hw: SizeHW, options: LabelOptions | None = None
) -> Painted:
    """Paint masks into one label image; earlier masks keep their pixels.

    Parameters
    ----------
    masks : iterable of WindowMask
        In order of priority; drawn, cleaned and forgotten one by one.
    size_hw : (int, int)
        Height and width of the picture.
    options : LabelOptions, optional

    Returns
    -------
    Painted
        Labels are consecutive and every one of them has pixels.
    """
    chosen = options or LabelOptions()
    labels = np.zeros(size_hw, np.int32)
    sources: list[int] = []
    for index, (window, mask) in enumerate(masks):
        whole = clean_mask(mask, hole_share=chosen.hole_share, island_share=chosen.island_share)
        visible = _visible(whole, labels[window], chosen)
        if visible is not None:
            sources.append(index)
            labels[window][visible] = len(sources)
    return Painted(labels, np.array(sources, np.int64))


def _visible(
    whole: npt.NDArray[np.bool_], taken: npt.NDArray[np.int32], options: LabelOptions
) -> npt.NDArray[np.bool_] | None:
    """Return what others left of a mask, None where that is too little."""
    area = np.count_nonzero(whole)
    visible: npt.NDArray[np.bool_] = whole & (taken == 0)
    left = np.count_nonzero(visible)
    if 0 < left < area:  # others may have cut it to pieces
        visible = clean_mask(visible, hole_share=0, island_share=options.island_share)
        left = np.count_nonzero(visible)
    if left == 0 or left < options.min_area or left < options.min_visible * area:
        return None
    return visible
