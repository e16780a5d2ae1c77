"""The slices of an image layer as the model's side of volumes takes them, and what it says of them.

The volume is what **Segment** shows to the model, slice by slice: the same region, contrast and
channels. So a slice that was clicked on is encoded once, for the click and for what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.errors import NothingThereError
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.session.followed import (
    DoubtfulSlice,
    End,
    Followed,
    FollowedSlice,
)
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Draft, PointPrompt, Sight, Turn
from sam_plugins.napari_plugin.shown import show_model

if TYPE_CHECKING:
    from sam_plugins.model.inference.volume import (
        ObjectSlices,
        Propagation,
        Seed,
        SliceEmbeddings,
        SliceMask,
        Stop,
    )
    from sam_plugins.napari_plugin.answering import Answerer

Anchors = tuple[tuple[int, tuple[Turn, ...]], ...]


class NoStackError(NothingThereError):
    """There are no slices to follow an object through."""


@dataclass(frozen=True, eq=False)
class Stack:
    """What the model sees of an image along one axis: an array of shape (N, H, W, 3), uint8.

    Parameters
    ----------
    source : ImageSource
    sight : Sight
        Of one of the slices.
    axis : int
        Of the labels.
    voxel_size : (float, float, float)
        Lengths along the axis, of a row and of a column.
    """

    source: ImageSource
    sight: Sight
    axis: int
    voxel_size: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Slices, rows and columns of the region that is shown, colours."""
        return (self.source.shape[self.axis], *self.sight.region.shape, 3)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of the pictures."""
        return np.dtype(np.uint8)

    @property
    def key(self) -> Sight:
        """Equal for stacks of which the model sees the same."""
        return self.sight_at(0)

    def sight_at(self, index: int) -> Sight:
        """Return what the model is shown of a slice."""
        return replace(self.sight, plane=self.plane_at(index))

    def plane_at(self, index: int) -> Plane:
        """Return the plane of a slice."""
        return self.sight.plane.moved(self.axis, index)

    def holds(self, sight: Sight) -> bool:
        """Return whether what is shown is one of the slices."""
        if sight.plane.axes != self.sight.plane.axes:
            return False
        return self.sight_at(sight.plane.index_on(self.axis)) == sight

    def __getitem__(self, where: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401
        """Return the picture of one slice, as large as the model makes use of."""
        first = where[0] if isinstance(where, tuple) else where
        return show_model(self.source, self.sight_at(int(first)))

    def embeddings(self, answerer: Answerer) -> SliceEmbeddings:
        """Return the embeddings of the slices, which are found where those of clicks are."""
        from sam_plugins.model.inference.volume import SliceEmbeddings, Volume

        volume = Volume(
            self,
            voxel_size_zyx=self.voxel_size,
            channel_axis=3,
            channels={"red": 0, "green": 1, "blue": 2},
            limits=[(0.0, 255.0)] * 3,
        )
        return SliceEmbeddings(answerer.model, volume, cache=answerer.cache)

    def crop(self, found: SliceMask) -> MaskCrop:
        """Return a mask of a slice in pixels of the plane."""
        (rows, columns), mask = found.found
        region = self.sight.region
        return MaskCrop.of(mask, (region.top + rows.start, region.left + columns.start))


def follow_axis(source: ImageSource, plane: Plane, axis: int = -1) -> int:
    """Return the axis to follow objects along that were prompted in a plane.

    Parameters
    ----------
    source : ImageSource
    plane : Plane
    axis : int
        The one that is wished for; -1 for the last one that has a slider.

    Raises
    ------
    NoStackError
        If there is none, or the plane extends along it.
    """
    channels = source.channel_axis
    open_axes = [
        one
        for one in plane.other_axes
        if source.shape[one] > 1 and (not channels or one != channels)
    ]
    if not open_axes:
        raise NoStackError(
            f"an object is followed through slices, and this image has one of them, of shape "
            f"{source.shape}; open a stack or a film"
        )
    if axis == -1:
        return open_axes[-1]
    if axis not in open_axes:
        raise NoStackError(
            f"the axis must be one that has a slider where the object was clicked on, "
            f"{', '.join(map(str, open_axes))}, got {axis}; choose another one, or roll the axes"
        )
    return axis


def seed_of(draft: Draft, stack: Stack, number: int) -> Seed:
    """Return what is known of an object on a prompted slice.

    A lone click for which nobody chose among the answers is asked for again by the model's side:
    the mean of the three answers is followed better than the most trusted one. Anything else counts
    as it is seen.
    """
    from sam_plugins.model.inference.types import Prompts
    from sam_plugins.model.inference.volume import Seed

    region = stack.sight.region
    index = draft.sight.plane.index_on(stack.axis)
    click = lone_click(draft)
    if click is not None:
        point = (click.x - region.left, click.y - region.top)
        return Seed(number, index, prompts=Prompts.for_object([point]))
    mask = draft.mask or MaskCrop(Window(0, 0, 0, 0), b"")
    return Seed(number, index, mask=mask.on(region))


def lone_click(draft: Draft) -> PointPrompt | None:
    """Return the click that a draft consists of, None where there is more to it."""
    prompts = draft.prompts
    if len(prompts) == 1 and draft.turns[-1].choice is None and isinstance(prompts[0], PointPrompt):
        return prompts[0]
    return None


def followed_from(
    found: Propagation, stack: Stack, anchors: Mapping[int, Anchors]
) -> list[Followed]:
    """Return what was followed as values of a session.

    Parameters
    ----------
    found : Propagation
    stack : Stack
    anchors : mapping of int to anchors
        What each object was followed from.
    """
    doubts: dict[int, list[DoubtfulSlice]] = {}
    for doubt in found.doubtful():
        one = DoubtfulSlice(doubt.index, doubt.confidence, doubt.reason)
        doubts.setdefault(doubt.object_id, []).append(one)
    return [
        Followed(
            one.object_id,
            stack.axis,
            anchors[one.object_id],
            _slices(one, stack),
            tuple(_end(stop) for stop in one.stops),
            tuple(doubts.get(one.object_id, ())),
        )
        for one in found.objects
    ]


def _slices(one: ObjectSlices, stack: Stack) -> tuple[FollowedSlice, ...]:
    """Return the slices of an object."""
    return tuple(
        FollowedSlice(stack.plane_at(index), stack.crop(found), found.confidence, found.is_prompted)
        for index, found in one.slices.items()
    )


def _end(stop: Stop) -> End:
    """Return in words why an object ends."""
    figure = "" if np.isnan(stop.value) else f" ({stop.value:.2f})"
    return End(stop.index, stop.reason.value + figure)


def voxel_size(lengths: Sequence[float], plane: Plane, axis: int) -> tuple[float, float, float]:
    """Return the lengths of a voxel along an axis, of a row and of a column.

    Examples
    --------
    >>> voxel_size((2.0, 0.5, 0.25), Plane((2, 1), (0,)), 0)
    (2.0, 0.25, 0.5)
    """
    return lengths[axis], lengths[plane.axes[0]], lengths[plane.axes[1]]
