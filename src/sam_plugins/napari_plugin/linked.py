"""All objects of a stack, linked across its slices; runs in the thread of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_plugins.errors import UnusableImageError
from sam_plugins.napari_plugin.automatic_params import FindParams, KeepParams, LinkParams
from sam_plugins.napari_plugin.coordinates import WHOLE_SIDE
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.stack import Stack, follow_axis, voxel_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.napari_plugin.jobs import JobProgress
    from sam_plugins.napari_plugin.session.values import Sight


_SPLIT_WAIST = 0.5
"""Objects that lie upon each other are taken apart where they are so much narrower between."""


def whole_stack(source: ImageSource, sight: Sight, lengths: Sequence[float]) -> Stack:
    """Return all slices of an image that are parallel to one.

    Parameters
    ----------
    source : ImageSource
    sight : Sight
        What the model is shown of a whole slice.
    lengths : sequence of float
        Of a voxel, on each axis of the labels.

    Raises
    ------
    UnusableImageError
        If it has other than three axes besides channels, or its planes are too large to be shown
        at once.
    NoStackError
        If there is one slice only.
    """
    plane = sight.plane
    if sum(length > 1 for length in source.shape) > 3:
        raise UnusableImageError(
            f"objects are linked in stacks of three axes, got the shape {source.shape}; segment "
            "one time point, or slice by slice"
        )
    size_hw = plane.size_hw(source.shape)
    if max(size_hw) > WHOLE_SIDE:
        raise UnusableImageError(
            f"objects are linked here in slices of up to {WHOLE_SIDE} pixels a side, got "
            f"{size_hw}; crop the stack, segment it slice by slice, or let `sam-plugins segment "
            "--stack` link it, by tiles and of any size"
        )
    axis = follow_axis(source, plane)
    return Stack(source, sight, axis, voxel_size(lengths, plane, axis))


def link_all(
    load: Callable[[], Model],
    stack: Stack,
    out: Any,  # noqa: ANN401
    params: tuple[FindParams, KeepParams, LinkParams],
    *,
    cache: EmbeddingCache,
    progress: JobProgress,
) -> int:
    """Segment a stack into an array of labels, slice by slice, and return how many objects.

    When it is cancelled, the slices that are done stay, their objects linked, not yet filtered.
    """
    from sam_plugins.model.inference.segment_options import usual_options
    from sam_plugins.model.inference.volume import (
        LinkOptions,
        SliceEmbeddings,
        Volume,
    )
    from sam_plugins.model.large.volume import segment_volume

    find, keep, link = params
    progress(0, 2 * stack.shape[0])
    volume = Volume(
        stack,
        voxel_size_zyx=stack.voxel_size,
        channel_axis=3,
        channels={"red": 0, "green": 1, "blue": 2},
        limits=[(0.0, 255.0)] * 3,
    )
    mode = "grid" if find.prompts == "grid" else "auto"
    model = load()
    usual = usual_options(model, mode)
    least = max(usual.masks.min_predicted_iou, keep.min_quality)
    options = replace(
        usual,
        points_per_side=find.points_per_side,
        max_iou=keep.max_overlap,
        masks=replace(usual.masks, min_predicted_iou=least),
        labels=replace(usual.labels, min_area=max(1, keep.min_area)),
    )
    found = segment_volume(
        SliceEmbeddings(model, volume, cache=cache),
        mode=mode,
        options=options,
        link=LinkOptions(
            min_iou=link.min_iou,
            max_gap=link.max_gap,
            min_slices=link.min_slices,
            min_voxels=link.min_voxels,
            split_waist=_SPLIT_WAIST,
        ),
        looks_closer=find.may_look_closer,
        out=_Turned(out, stack) if not _is_in_order(stack) else out,
        progress=progress,
    )
    return len(found)


def _is_in_order(stack: Stack) -> bool:
    """Return whether the axes of the labels are those of the stack, in order."""
    axes = (stack.axis, *stack.sight.plane.axes)
    return axes == (0, 1, 2) and stack.sight.plane.ndim == 3


class _Turned:
    """Labels whose first axis is the one that is followed."""

    def __init__(self, array: Any, stack: Stack) -> None:  # noqa: ANN401
        self._array, self._stack = array, stack
        self.shape = stack.shape[:3]
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, where: Any) -> Any:  # noqa: ANN401
        """Return a slice."""
        return self._stack.plane_at(int(where[0])).take(self._array)

    def __setitem__(self, where: Any, values: Any) -> None:  # noqa: ANN401
        """Replace a slice."""
        plane = self._stack.plane_at(int(where[0]))
        plane.put(self._array, Window(0, 0, *self.shape[1:]), np.asarray(values))
