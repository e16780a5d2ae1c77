"""What people choose about following objects through a stack."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam_plugins.model.inference.volume import PropagationOptions

KINDS = ("volume", "film")

_SLIDER = {"widget_type": "FloatSlider", "min": 0.0, "max": 1.0, "step": 0.05}


@dataclass(frozen=True)
class FollowParams:
    """Along which axis, how far and with which patience objects are followed.

    Parameters
    ----------
    kind : {"volume", "film"}
        What the next slice is asked with; see :func:`preset` for what suits each.
    axis : int
        Of the labels; -1 for the last one that has a slider.
    first, last : int
        The slices to which the work is confined; a ``last`` of -1 is the last one.
    min_overlap, min_predicted_iou, min_similarity, max_area_ratio, patience
        As in :class:`~sam_plugins.model.inference.volume.PropagationOptions`.
    fuses_axes : bool
        Whether objects are followed along the other two axes as well, and what two of three ways
        lead to is taken; not in films.
    encodes_ahead : bool
        Whether the other slices are encoded in the background after the first mask.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    kind: str = field(
        default="volume",
        metadata={
            "label": "Slices are",
            "choices": list(KINDS),
            "tooltip": "volume: an object grows and shrinks from slice to slice, and ends. "
            "film: it stays and moves; what is held is not let go",
        },
    )
    axis: int = field(
        default=-1,
        metadata={
            "label": "Along axis",
            "min": -1,
            "max": 9,
            "tooltip": "The axis to follow objects along; -1: the last one that has a slider. Roll "
            "the axes (the cube below the layers) to prompt in, and go along, other directions",
        },
    )
    first: int = field(
        default=0,
        metadata={
            "label": "First slice",
            "min": 0,
            "max": 1_000_000,
            "tooltip": "Objects are not followed to slices before this one",
        },
    )
    last: int = field(
        default=-1,
        metadata={
            "label": "Last slice",
            "min": -1,
            "max": 1_000_000,
            "tooltip": "Objects are not followed to slices after this one; -1: to the end",
        },
    )
    min_overlap: float = field(
        default=0.55,
        metadata={
            "label": "Least overlap",
            **_SLIDER,
            "tooltip": "An object ends where it overlaps less with its last slice (IoU)",
        },
    )
    min_predicted_iou: float = field(
        default=0.2,
        metadata={
            "label": "Least trust",
            **_SLIDER,
            "tooltip": "An object ends where the model trusts its mask less",
        },
    )
    min_similarity: float = field(
        default=0.25,
        metadata={
            "label": "Least likeness",
            **_SLIDER,
            "min": -1.0,
            "tooltip": "An object ends where it looks less like it does on the prompted slice; "
            "-1: do not compare",
        },
    )
    max_area_ratio: float = field(
        default=3.0,
        metadata={
            "label": "Most change of area",
            "min": 1.0,
            "max": 1000.0,
            "step": 0.5,
            "tooltip": "An object ends where its area becomes so many times larger or smaller from "
            "one slice to the next",
        },
    )
    patience: int = field(
        default=3,
        metadata={
            "label": "Patience",
            "min": 1,
            "max": 1000,
            "tooltip": "So many doubtful slices in a row end an object (not in films)",
        },
    )
    fuses_axes: bool = field(
        default=False,
        metadata={
            "label": "Fuse three axes",
            "tooltip": "Follow objects along all three axes, and take what two of three agree on. "
            "For volumes whose voxels are about as long as wide; takes about three times as long "
            "(not in films)",
        },
    )
    encodes_ahead: bool = field(
        default=True,
        metadata={
            "label": "Encode ahead",
            "tooltip": "Encode the other slices in the background, from where you are, once you "
            "have clicked; they are kept on the disk",
        },
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name, least in (("axis", -1), ("first", 0), ("last", -1), ("patience", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name, least in (("min_overlap", 0), ("min_predicted_iou", 0), ("min_similarity", -1)):
            if not least <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [{least}, 1], got {getattr(self, name)}")
        if self.max_area_ratio < 1:
            raise ValueError(f"max_area_ratio must be 1 or more, got {self.max_area_ratio}")
        if -1 < self.last < self.first:
            raise ValueError(f"last must be -1 or {self.first} or more, got {self.last}")

    @property
    def lasting(self) -> FollowParams:
        """What is worth keeping for other images and other days."""
        usual = FollowParams()
        return replace(self, axis=usual.axis, first=usual.first, last=usual.last)

    @property
    def fuses(self) -> bool:
        """Whether three axes are fused."""
        return self.fuses_axes and self.kind == "volume"

    def options(self) -> PropagationOptions:
        """Return them as the model's side takes them; loads PyTorch."""
        return replace(
            _usual(self.kind),
            min_overlap=self.min_overlap,
            min_predicted_iou=self.min_predicted_iou,
            min_similarity=self.min_similarity,
            max_area_ratio=self.max_area_ratio,
            patience=self.patience,
        )


def preset(kind: str) -> dict[str, Any]:
    """Return the values that suit a kind of stack, by the names of the parameters."""
    usual = _usual(kind)
    names = ("min_overlap", "min_predicted_iou", "min_similarity", "max_area_ratio", "patience")
    return {"kind": kind, **{name: getattr(usual, name) for name in names}}


def _usual(kind: str) -> PropagationOptions:
    """Return the options for a kind of stack."""
    from sam_plugins.model.inference.volume import FILM, PropagationOptions

    return FILM if kind == "film" else PropagationOptions()
