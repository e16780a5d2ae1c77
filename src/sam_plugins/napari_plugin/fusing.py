"""Objects that were followed along one axis, followed along the other two and put to the vote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.session.followed import (
    DoubtfulSlice,
    End,
    Followed,
    FollowedSlice,
)
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.stack import Anchors, NoStackError, Stack, followed_from

if TYPE_CHECKING:
    from sam_plugins.model.inference.volume import Propagation, PropagationOptions, ThreeAxes
    from sam_plugins.napari_plugin.answering import Answerer
    from sam_plugins.napari_plugin.jobs import JobProgress


def require_fusible(stack: Stack) -> None:
    """Refuse a stack that cannot be followed along the other axes.

    Raises
    ------
    NoStackError
        If its slices are shown to the model at another size than they have.
    MemoryLimitError
        If what is shown of it does not fit into memory.
    """
    from sam_plugins.model.inference.memory import require_memory

    shown = stack[stack.sight.plane.index_on(stack.axis)].shape[:2]
    if shown != stack.shape[1:3]:
        raise NoStackError(
            f"three axes can be fused where the model sees every pixel; here it sees "
            f"{stack.shape[1]} x {stack.shape[2]} pixels as {shown[0]} x {shown[1]}: zoom in "
            "before the first click, or switch Fuse three axes off"
        )
    require_memory(
        int(np.prod(stack.shape)),
        "the stack as the model sees it",
        lambda _: "zoom in before the first click, or switch Fuse three axes off",
    )


def fused(
    stack: Stack,
    answerer: Answerer,
    first: Propagation,
    anchors: Mapping[int, Anchors],
    options: PropagationOptions,
    index_range: tuple[int, int],
    *,
    progress: JobProgress,
) -> list[Followed]:
    """Return objects as two of three ways have them; from the thread of a job.

    What a person said of a slice stays as it is.

    Parameters
    ----------
    stack : Stack
    answerer : Answerer
    first : Propagation
        Along the axis of the stack.
    anchors : mapping of int to anchors
        What each object was followed from.
    options : PropagationOptions
    index_range : (int, int)
        Slices to which the work is confined, the second excluded.
    progress : JobProgress
    """
    from sam_plugins.model.inference.volume import SliceEmbeddings, Volume, propagate_across

    pictures = np.empty(stack.shape, np.uint8)
    for index in range(len(pictures)):
        progress(index, len(pictures))
        pictures[index] = stack[index]
    volume = Volume(
        pictures,
        voxel_size_zyx=stack.voxel_size,
        channel_axis=3,
        channels={"red": 0, "green": 1, "blue": 2},
        limits=[(0.0, 255.0)] * 3,
    )
    slices = SliceEmbeddings(answerer.model, volume, cache=answerer.cache)
    found = propagate_across(slices, first, options=options, progress=progress)
    return [_voted(one, found, stack, index_range) for one in followed_from(first, stack, anchors)]


def _voted(one: Followed, found: ThreeAxes, stack: Stack, index_range: tuple[int, int]) -> Followed:
    """Return an object as two of three ways have it, or as it was with fewer ways."""
    if found.votes(one.key)[1] < 3:
        return one
    mask, agreement = found.mask(one.key), found.agreement(one.key)
    said = {known.plane.index_on(one.axis): known for known in one.slices if known.is_prompted}
    slices = []
    for index in range(*index_range):
        if index in said:
            slices.append(said[index])
        elif mask[index].any():
            shown = _crop(mask[index], stack)
            slices.append(FollowedSlice(stack.plane_at(index), shown, float(agreement[index])))
    if not slices:
        return one
    from sam_plugins.model.inference.volume.values import DOUBTFUL

    doubts = [
        DoubtfulSlice(
            known.plane.index_on(one.axis),
            known.confidence,
            f"the three axes agree on {known.confidence:.2f} of it",
        )
        for known in slices
        if not known.is_prompted and known.confidence < DOUBTFUL
    ]
    first, last = (slices[end].plane.index_on(one.axis) for end in (0, -1))
    ends = tuple(End(index, "two of three axes lead no further") for index in (first - 1, last + 1))
    doubts.sort(key=lambda doubt: doubt.confidence)
    return Followed(one.key, one.axis, one.anchors, tuple(slices), ends, tuple(doubts))


def _crop(mask: npt.NDArray[np.bool_], stack: Stack) -> MaskCrop:
    """Return a mask of a region in pixels of the plane."""
    region = stack.sight.region
    return MaskCrop.of(mask, (region.top, region.left))
