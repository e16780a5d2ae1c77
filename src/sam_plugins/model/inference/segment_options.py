"""What can be set about automatic segmentation, and what is usual."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.checks import count, require_type
from sam_plugins.model.inference.label_image import OVERLAPS, LabelOptions, Overlap
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.seeds import SeedOptions

Mode = Literal["auto", "grid"]
MODES: tuple[Mode, ...] = ("auto", "grid")

AsksWith = Literal["both", "box", "point"]


@dataclass(frozen=True)
class SegmentOptions:
    """Everything that can be set about automatic segmentation.

    Thresholds that suit one mode do not suit the other: change a value of :data:`AUTO` or
    :data:`GRID` with :func:`dataclasses.replace`.

    Parameters
    ----------
    masks : MaskFilter
        Which masks are good enough.
    seeds : SeedOptions
        How the instance maps become points; for mode "auto".
    asks_with : {"both", "box", "point"}
        What asks for an object that the maps see: its point, the box of the region around it, or
        one after the other, whose answers are weighed together, in twice the time; for mode "auto".
    points_per_side : int
        Points of the grid along the longer side; for mode "grid".
    skip_found : bool
        Whether points that lie in a good mask already are left out: faster, but what lies within
        another object is missed; for mode "grid".
    max_iou : float
        A mask is a duplicate when its IoU with a better one is larger; 1 keeps all.
    max_containment : float
        A mask is a duplicate when it shares more than this part of the smaller of the two with a
        better one; 1 lets objects lie within objects.
    overlap : {"score", "smaller"}
        Who owns the pixels of an overlap: the better mask, or the smaller one.
    labels : LabelOptions
        How masks become plausible objects of a label image.
    chunk_size : int, optional
        Points that are decoded at once; less needs less memory. 4 on a CPU, 64 on a GPU.

    Examples
    --------
    >>> from dataclasses import replace
    >>> replace(GRID, points_per_side=16).overlap
    'smaller'
    >>> larger = replace(AUTO, labels=replace(AUTO.labels, min_area=100))
    """

    masks: MaskFilter = field(
        default_factory=lambda: MaskFilter(0.2, 0.2, agreement_weight=0.75, blend_temperature=0.05)
    )
    seeds: SeedOptions = field(default_factory=SeedOptions)
    asks_with: AsksWith = "both"
    points_per_side: int = 32
    skip_found: bool = False
    max_iou: float = 0.5
    max_containment: float = 0.75
    overlap: Overlap = "score"
    labels: LabelOptions = field(default_factory=LabelOptions)
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        """Check the types and the ranges."""
        for name, kind in (("masks", MaskFilter), ("seeds", SeedOptions), ("labels", LabelOptions)):
            require_type(name, getattr(self, name), kind, "leave it out for the defaults")
        if self.overlap not in OVERLAPS:
            raise ValueError(f"overlap must be one of {', '.join(OVERLAPS)}, got {self.overlap!r}")
        if self.asks_with not in get_args(AsksWith):
            raise ValueError(
                f"asks_with must be one of {', '.join(get_args(AsksWith))}, got {self.asks_with!r}"
            )
        for name in ("max_iou", "max_containment"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        for name in ("points_per_side", "chunk_size"):
            if getattr(self, name) is not None:
                count(name, getattr(self, name))


AUTO = SegmentOptions()
"""Defaults of mode "auto"."""

GRID = SegmentOptions(
    masks=MaskFilter(0.88, 0.95, best_per_point=False),
    max_iou=0.7,
    max_containment=1.0,
    overlap="smaller",
)
"""Defaults of mode "grid": the thresholds are those of the Segment Anything paper."""

OWN_GRID = replace(GRID, masks=MaskFilter(0.4, 0.5))
"""The same for models of this package, which promise less, with softer edges: the best of a point.

On two train pictures each of dsb2018 and pebbles (144 points, version 6 of the shipped model) SAM's
thresholds let next to nothing pass; of 0.3 to 0.6 for the predicted IoU and 0.1 more for the
stability, these have the best mean mSA, 0.42; with every mask of a point it is 0.37 at most.
"""


def usual_options(model: Model, mode: Mode | str) -> SegmentOptions:
    """Return the defaults of a mode, which are not the same for every model."""
    check_mode(mode)
    if mode == "auto":
        return AUTO
    return OWN_GRID if model.has_instance_decoder else GRID


def check_mode(mode: str) -> None:
    """Refuse an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
