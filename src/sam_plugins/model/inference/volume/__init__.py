"""Volumes and films: slices encoded from where you are, objects followed and linked."""

from sam_plugins.model.inference.volume.linked_volume import VolumeSegmentation
from sam_plugins.model.inference.volume.linking import LinkOptions
from sam_plugins.model.inference.volume.options import FILM, PropagationOptions
from sam_plugins.model.inference.volume.propagate import PropagationRun, correct, propagate
from sam_plugins.model.inference.volume.slices import SliceEmbeddings, nearest_first
from sam_plugins.model.inference.volume.stack import AXES, Volume
from sam_plugins.model.inference.volume.three_axes import (
    ThreeAxes,
    propagate_across,
    propagate_three_axes,
)
from sam_plugins.model.inference.volume.values import (
    Chain,
    Doubt,
    ObjectSlices,
    Propagation,
    Seed,
    SliceMask,
    Stop,
    StopReason,
)

__all__ = [
    "AXES",
    "FILM",
    "Chain",
    "Doubt",
    "LinkOptions",
    "ObjectSlices",
    "Propagation",
    "PropagationOptions",
    "PropagationRun",
    "Seed",
    "SliceEmbeddings",
    "SliceMask",
    "Stop",
    "StopReason",
    "ThreeAxes",
    "Volume",
    "VolumeSegmentation",
    "correct",
    "nearest_first",
    "propagate",
    "propagate_across",
    "propagate_three_axes",
]
