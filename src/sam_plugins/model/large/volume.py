"""Every object of a volume in memory: its slices as a picture of its own each, and linked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sam_plugins.model.inference.automatic import (
    check_options,
    report,
    require_instance_decoder,
    segment_embedding,
)
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.segment_options import (
    Mode,
    SegmentOptions,
    check_mode,
    usual_options,
)
from sam_plugins.model.inference.volume.linked_volume import (
    FoundInSlice,
    VolumeSegmentation,
    link_slices,
)
from sam_plugins.model.inference.volume.linking import LinkOptions
from sam_plugins.model.inference.volume.slices import SliceEmbeddings
from sam_plugins.model.inference.volume.values import WritableArray, require_room
from sam_plugins.model.large.closer import closer_plan
from sam_plugins.model.large.farther import look_from_farther, shows_large_objects
from sam_plugins.model.large.whole import segment_windows


def segment_volume(
    slices: SliceEmbeddings,
    *,
    mode: Mode | str = "auto",
    options: SegmentOptions | None = None,
    link: LinkOptions | None = None,
    looks_closer: bool = True,
    out: WritableArray | None = None,
    progress: Progress | None = None,
) -> VolumeSegmentation:
    """Segment every object of a volume: slice by slice, then linked across slices.

    Only a few slices are in memory at a time, if ``out`` is an array on disk.

    Parameters
    ----------
    slices : SliceEmbeddings
        Along the axis to go.
    mode : {"auto", "grid"}
        How a slice is segmented, as for :func:`~sam_plugins.segment`.
    options : SegmentOptions, optional
        As for :func:`~sam_plugins.segment`.
    link : LinkOptions, optional
        How objects of slices are linked, split, merged and filtered.
    looks_closer : bool
        Whether slices that the model would see reduced are looked at in windows where the objects
        of the middle slice are small. Slices that are stretched to square pixels, because the axes
        across them have other steps, are looked at as a whole. Where the objects of the middle
        slice are large, all are looked at from farther if that one is better so, as by
        :func:`~sam_plugins.segment`.
    out : array of shape (Z, Y, X), integer, optional
        Overwritten, such as a chunked Zarr array; a new int32 array by default. It must be able to
        hold the number of tracks, of which there are more than objects.
    progress : callable, optional
        Called before each slice, and while it is segmented, with the steps done and the steps in
        all: each slice is segmented, and renumbered at the end. An exception that it raises stops
        the work; embeddings that were computed stay in the cache.

    Returns
    -------
    VolumeSegmentation

    Raises
    ------
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    ValueError
        If ``mode`` is unknown, or ``out`` has another shape, or cannot hold the labels.
    TypeError
        If an argument is of another type.
    MemoryLimitError
        If memory runs out.
    """
    require_type("slices", slices, SliceEmbeddings, "make them with SliceEmbeddings(model, volume)")
    chosen = link or LinkOptions()
    require_type("link", chosen, LinkOptions, "leave it out for the defaults")
    check_mode(mode)
    check_options(options)
    if mode == "auto":
        require_instance_decoder(slices.model)
    shape, axis = slices.volume.shape_zyx, slices.axis
    labels: WritableArray = np.zeros(shape, np.int32) if out is None else out
    require_room(labels, shape, 1)
    pixel_size = sum(slices.volume.pixel_size_hw(axis)) / 2
    report(progress, 0, 2 * len(slices))
    return link_slices(
        _finder(slices, mode, options or usual_options(slices.model, mode), looks_closer, progress),
        labels,
        axis=axis,
        link=chosen,
        steps_per_pixel=slices.volume.voxel_size_zyx[axis] / pixel_size,
        progress=progress,
    )


def _finder(
    slices: SliceEmbeddings,
    mode: Mode | str,
    options: SegmentOptions,
    looks_closer: bool,
    progress: Progress | None,
) -> Callable[[int], FoundInSlice]:
    """Return what segments a slice: all as wholes, or all in the windows that suit the middle."""
    model, volume, axis = slices.model, slices.volume, slices.axis
    plan = None
    if mode == "auto" and looks_closer and volume.shown_hw(axis) == volume.plane_hw(axis):
        middle = volume.rgb(axis, len(slices) // 2)
        plan = closer_plan(model, middle, options, slices.encoded)
    if mode == "auto" and plan is None:
        slices = _seen_best(slices, options, progress)
        model = slices.model

    def find(index: int) -> FoundInSlice:
        def tell(*_: int) -> None:
            report(progress, index, 2 * len(slices))

        if plan is None:
            found = segment_embedding(
                model, slices.embedding(index), mode=mode, options=options, progress=tell
            )
        else:
            rgb = volume.rgb(axis, index)
            found = segment_windows(model, rgb, plan, options, slices.encoded, tell)
        return FoundInSlice(found.labels, found.scores)

    return find


def _seen_best(
    slices: SliceEmbeddings, options: SegmentOptions, progress: Progress | None
) -> SliceEmbeddings:
    """Return the slices as the model sees the middle one best."""
    model, volume, axis, middle = slices.model, slices.volume, slices.axis, len(slices) // 2
    embedding = slices.embedding(middle)
    if not shows_large_objects(model, embedding, options):
        return slices

    def tell(*_: int) -> None:
        report(progress, 0, 2 * len(slices))

    found = segment_embedding(model, embedding, options=options, progress=tell)
    rgb = volume.rgb(axis, middle)
    best, _ = look_from_farther(model, rgb, embedding, found, options, progress=tell)
    if best is model:
        return slices
    return SliceEmbeddings(best, volume, axis=axis, cache=slices.cache)
