"""Objects followed along z, y and x, and put to the vote: for isotropic volumes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume.options import PropagationOptions
from sam_plugins.model.inference.volume.propagate import propagate
from sam_plugins.model.inference.volume.shapes import window_of
from sam_plugins.model.inference.volume.slices import SliceEmbeddings
from sam_plugins.model.inference.volume.values import Propagation, Seed, SliceMask

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ThreeAxes:
    """Objects that were followed along all three axes.

    Parameters
    ----------
    along : tuple of Propagation
        First along the axis of the seeds, then along the other two. An object that could not be
        followed along one of those is missing there, and is not put to the vote.
    """

    along: tuple[Propagation, Propagation | None, Propagation | None]

    def votes(self, object_id: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Return how many ways lead to each voxel, shape (Z, Y, X), and how many there are.

        Raises
        ------
        KeyError
            If there is no such object.
        """
        counts = self.along[0].mask(object_id).astype(np.uint8)
        ways = 1
        for other in self.along[1:]:
            if other is not None and any(one.object_id == object_id for one in other.objects):
                counts += other.mask(object_id)
                ways += 1
        return counts, ways

    def mask(self, object_id: int) -> BoolArray:
        """Return the voxels, (Z, Y, X), that two of three ways lead to.

        With fewer than three ways it is the mask along the axis of the seeds.

        Raises
        ------
        KeyError
            If there is no such object.
        """
        counts, ways = self.votes(object_id)
        if ways < 3:
            return self.along[0].mask(object_id)
        majority: BoolArray = counts >= 2
        return majority

    def agreement(self, object_id: int) -> npt.NDArray[np.float64]:
        """Return, for each slice along the axis of the seeds, how far the ways agree.

        Returns
        -------
        ndarray of shape (n,), float64
            Voxels on all ways over voxels on any, 0 to 1; NaN where the object is not. Low values
            are slices to look at.

        Raises
        ------
        KeyError
            If there is no such object.
        """
        counts, ways = self.votes(object_id)
        along = np.moveaxis(counts, self.along[0].axis, 0).reshape(
            counts.shape[self.along[0].axis], -1
        )
        every, any_ = (along == ways).sum(axis=1), (along > 0).sum(axis=1)
        return np.where(any_ > 0, every / np.maximum(any_, 1), np.nan)


def propagate_three_axes(
    slices: SliceEmbeddings,
    seeds: Iterable[Seed],
    *,
    options: PropagationOptions | None = None,
    progress: Progress | None = None,
) -> ThreeAxes:
    """Follow objects along the axis of the slices, then along the other two from what was found.

    Along each other axis an object starts on the slice where it is largest so far, asked for with
    the box of its section there.

    Parameters
    ----------
    slices : SliceEmbeddings
        Along the axis of the seeds. Its model, volume and cache serve the other axes, too.
    seeds, options
        As for :func:`propagate`.
    progress : callable, optional
        As for :func:`propagate`; all three axes count.

    Returns
    -------
    ThreeAxes

    Raises
    ------
    ValueError, IndexError, TypeError, MemoryLimitError
        As for :func:`propagate`.
    """
    total = 2 * sum(slices.volume.shape_zyx)
    before = 2 * len(slices)

    def in_first(done: int, _: int) -> None:
        if progress is not None:
            progress(done, total)

    def in_others(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    first = propagate(slices, seeds, options=options, progress=in_first)
    return propagate_across(slices, first, options=options, progress=in_others)


def propagate_across(
    slices: SliceEmbeddings,
    first: Propagation,
    *,
    options: PropagationOptions | None = None,
    progress: Progress | None = None,
) -> ThreeAxes:
    """Follow objects along the other two axes that were followed along one.

    Parameters
    ----------
    slices : SliceEmbeddings
        Of the volume, along the axis of ``first``.
    first : Propagation
    options : PropagationOptions, optional
    progress : callable, optional
        As for :func:`propagate`; both axes count.

    Returns
    -------
    ThreeAxes

    Raises
    ------
    ValueError, IndexError, TypeError, MemoryLimitError
        As for :func:`propagate`.
    """
    total = 2 * (sum(slices.volume.shape_zyx) - len(slices))
    before = 0

    def counted(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    others: list[Propagation | None] = []
    for axis in (a for a in range(3) if a != slices.axis):
        across = SliceEmbeddings(slices.model, slices.volume, axis=axis, cache=slices.cache)
        found = [_section_seed(first, one.object_id, axis) for one in first.objects]
        sections = [seed for seed in found if seed is not None]
        others.append(
            propagate(across, sections, options=options, progress=counted) if sections else None
        )
        before += 2 * len(across)
    if progress is not None:
        progress(total, total)
    return ThreeAxes((first, others[0], others[1]))


def _section_seed(found: Propagation, object_id: int, axis: int) -> Seed | None:
    """Return the box of an object's largest section along another axis, None for no object."""
    along = np.moveaxis(found.mask(object_id), axis, 0)
    areas = along.sum(axis=(1, 2))
    if not areas.any():
        return None
    index = int(areas.argmax())
    box = SliceMask(index, window_of(along[index])).box_xyxy
    return Seed(object_id, index, prompts=Prompts.for_object(box_xyxy=box))
