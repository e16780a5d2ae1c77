"""What can be chosen about automatic segmentation: where and how, which masks count, what links."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sam_plugins.napari_plugin.images import Contrast
from sam_plugins.napari_plugin.params import (
    CHANNEL_AXIS_CONTROL,
    CHANNELS_CONTROL,
    CONTRAST_CONTROL,
)

WHERE = ("this slice", "selected shapes", "all slices", "all slices, linked")


@dataclass(frozen=True)
class FindParams:
    """How masks are found; a change of these asks the model again.

    Parameters
    ----------
    where : str
        One of :data:`WHERE`.
    prompts : {"instance decoder", "grid"}
    points_per_side : int
        Of the grid.
    looks_closer : bool
        Whether pictures that the model would see reduced are looked at in windows where their
        objects are small; counts for the instance decoder.
    contrast : {"robust", "layer"}
        Where black and white come from for the model.
    channel_axis : int
        Axis of the channels in the image, -1 for what the layer says of itself.
    channels : str
        Which channels the model sees, see :func:`~sam_plugins.napari_plugin.params.parse_channels`.

    """

    where: str = field(
        default=WHERE[0],
        metadata={
            "label": "Segment",
            "choices": list(WHERE),
            "tooltip": "The slice that you see, what lies in the selected shapes of a Shapes "
            "layer, the stack slice by slice, or the stack with objects that go through the "
            "slices, for which the thresholds count when it begins",
        },
    )
    prompts: str = field(
        default="instance decoder",
        metadata={
            "label": "Prompts",
            "choices": ["instance decoder", "grid"],
            "tooltip": "The model's own idea of where objects are, or a regular grid of points: "
            "slower, and works with every model",
        },
    )
    points_per_side: int = field(
        default=32,
        metadata={
            "label": "Grid points",
            "min": 4,
            "max": 128,
            "tooltip": "Points of the grid along the longer side; more find smaller objects",
        },
    )
    looks_closer: bool = field(
        default=True,
        metadata={
            "label": "Look closer",
            "tooltip": "A picture that the model would see reduced is looked at in windows where "
            "its objects are small: more objects and finer outlines, in up to ten times the time; "
            "with the instance decoder",
        },
    )
    contrast: Contrast = field(default="robust", metadata=CONTRAST_CONTROL)
    channel_axis: int = field(default=-1, metadata=CHANNEL_AXIS_CONTROL)
    channels: str = field(default="", metadata=CHANNELS_CONTROL)

    @property
    def may_look_closer(self) -> bool:
        """Whether windows are an answer to small objects, as far as it is not up to the picture."""
        return self.looks_closer and self.prompts == "instance decoder"

    @property
    def lasting(self) -> FindParams:
        """What is worth keeping for other images and other days."""
        return replace(self, channel_axis=-1, channels="")


@dataclass(frozen=True)
class KeepParams:
    """Which masks count; a change of these asks nobody.

    Parameters
    ----------
    min_quality : float
        Least score, 0 to 1. With 0 the objects are those of the command line.
    min_area, max_area : int
        Pixels; 0 for any.
    max_overlap : float
        Masks with a larger IoU with a better one are duplicates.
    """

    min_quality: float = field(
        default=0.0,
        metadata={
            "label": "Least quality",
            "widget_type": "FloatSlider",
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Objects about which the model is less sure are left out, at once",
        },
    )
    min_area: int = field(
        default=10,
        metadata={
            "label": "Least area",
            "min": 0,
            "max": 10_000_000,
            "tooltip": "Smaller objects are left out, in pixels",
        },
    )
    max_area: int = field(
        default=0,
        metadata={
            "label": "Largest area",
            "min": 0,
            "max": 1_000_000_000,
            "tooltip": "Larger objects are left out, in pixels; 0 leaves out none",
        },
    )
    max_overlap: float = field(
        default=0.5,
        metadata={
            "label": "Most overlap",
            "widget_type": "FloatSlider",
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "Of two masks that share more than this (IoU), the better one stays",
        },
    )


@dataclass(frozen=True)
class LinkParams:
    """How objects of neighbouring slices become objects of a stack.

    Parameters
    ----------
    min_iou : float
        Least overlap with the slice before.
    max_gap : int
        So many slices may miss an object.
    min_slices, min_voxels : int
        Smaller objects are left out.
    """

    min_iou: float = field(
        default=0.3,
        metadata={
            "label": "Least overlap",
            "widget_type": "FloatSlider",
            "min": 0.05,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "Objects of neighbouring slices that overlap less (IoU) are not the same; "
            "thick slices are allowed for, by the scale of the layer",
        },
    )
    max_gap: int = field(
        default=1,
        metadata={
            "label": "Missing slices",
            "min": 0,
            "max": 10,
            "tooltip": "So many slices in a row may miss an object; they are filled in",
        },
    )
    min_slices: int = field(
        default=3,
        metadata={
            "label": "Least slices",
            "min": 1,
            "max": 100_000,
            "tooltip": "Objects on fewer slices are left out",
        },
    )
    min_voxels: int = field(
        default=60,
        metadata={
            "label": "Least voxels",
            "min": 1,
            "max": 1_000_000_000,
            "tooltip": "Smaller objects are left out",
        },
    )
