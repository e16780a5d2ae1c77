"""What can be set about following objects from slice to slice."""

from __future__ import annotations

from dataclasses import dataclass

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.volume.values import DOUBTFUL


@dataclass(frozen=True)
class PropagationOptions:
    """How objects are followed, and when following them ends.

    The defaults were chosen on the train splits of the data sets that ``docs/explanation/volumes``
    names.

    Parameters
    ----------
    shift, growth : float
        0 to 1: how much of the last shift of the box, and of the last change of its sides, is
        expected to happen again. 0 and 0 ask with the box of the last mask as it is.
    max_motion : float
        Change of each side at most, as a share of the box's mean side.
    second_opinion : bool
        Whether the model is asked twice: with the box alone, and with the box and the point deepest
        inside the last mask, to which it gives three answers. The mean counts. Twice the work.
    margin : float
        0 to 1: how much larger the box is on each side, as a share of that side.
    with_mask : bool
        Whether the last mask itself is asked with, beside the box: it holds the object in films,
        and where it is not compact, and holds on to mistakes, too.
    min_overlap : float
        0 to 1: the least IoU with the mask of the slice before.
    allow_steps : bool
        Whether less overlap, down to half, will do where slices are farther apart than pixels: the
        outline of an object moves more from one to the next, the more so the smaller it is.
    max_area_ratio : float
        1 or more: the most by which the area may grow or shrink from one slice to the next.
    max_growth : float
        1 or more: the most by which the area may exceed that on the prompted slice.
    min_predicted_iou : float
        0 to 1: the least IoU that the model must expect of the mask.
    min_similarity : float
        -1 to 1: the least likeness to the object on the prompted slice; -1 does not compare, which
        is faster.
    min_confidence : float
        0 to 1: slices of less confidence (the geometric mean of overlap and predicted IoU) are
        doubtful.
    patience : int
        So many doubtful slices in a row end an object after the first of them.
    chunk_size : int, optional
        Objects that are decoded at once; 4 on a CPU, 64 on a GPU.
    """

    shift: float = 1.0
    growth: float = 1.0
    max_motion: float = 0.15
    second_opinion: bool = True
    margin: float = 0.0
    with_mask: bool = False
    min_overlap: float = 0.55
    allow_steps: bool = True
    max_area_ratio: float = 3.0
    max_growth: float = 4.0
    min_predicted_iou: float = 0.2
    min_similarity: float = 0.25
    min_confidence: float = DOUBTFUL
    patience: int = 3
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in (
            "shift",
            "growth",
            "max_motion",
            "min_overlap",
            "min_predicted_iou",
            "min_confidence",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("max_area_ratio", "max_growth"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity must lie in [-1, 1], got {self.min_similarity}")
        count("patience", self.patience)
        if self.chunk_size is not None:
            count("chunk_size", self.chunk_size)


FILM = PropagationOptions(
    shift=0.0,
    growth=0.0,
    second_opinion=False,
    margin=0.025,
    with_mask=True,
    min_overlap=0.5,
    min_similarity=-1.0,
    min_confidence=0.0,
)
"""For films, and slices along which objects hardly change: what is held is not let go."""
