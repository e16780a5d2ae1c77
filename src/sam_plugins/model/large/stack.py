"""Every object of a stack of any size: slices segmented by tiles, linked, written in chunks."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import require_instance_decoder
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.memory import require_memory
from sam_plugins.model.inference.rgb import Channels, Limits, contrast_limits
from sam_plugins.model.inference.segment_options import Mode, SegmentOptions, usual_options
from sam_plugins.model.inference.volume.linked_volume import (
    FoundInSlice,
    VolumeSegmentation,
    link_slices,
)
from sam_plugins.model.inference.volume.linking import LinkOptions
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.atomic import atomic_path
from sam_plugins.model.large.assemble import number_objects, paint_core
from sam_plugins.model.large.automatic import source_of
from sam_plugins.model.large.job import Finder, TileJob, model_finder
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.labels_zarr import LabelPyramid
from sam_plugins.model.large.linked import LinkFolder
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.results import (
    LargeSegmentation,
    finished,
    publish,
    work_folder,
)
from sam_plugins.model.large.sizing import earlier_size, model_glance, tile_size
from sam_plugins.model.large.sources import Source
from sam_plugins.model.large.tiles import read_tile, segment_tile

COLUMNS = ("label", "score", "voxels", "first_slice", "last_slice")

_SAMPLED_SLICES = 9
_SAMPLED_PER_SLICE = 1 << 18
_CHUNK = 512
_BYTES_PER_PIXEL = 24
"""What linking holds of a slice: the last ones, and where these and the next overlap."""


def segment_large_stack(
    image: str | os.PathLike[str] | npt.NDArray[Any] | SliceableArray | Source,
    output: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] = "default",
    *,
    axis: str = "Z",
    voxel_size_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0),
    mode: Mode | str = "auto",
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    channel_axis: int | None = None,
    tile: int | None = None,
    halo: int | None = None,
    options: SegmentOptions | None = None,
    link: LinkOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LargeSegmentation:
    """Segment every object of a stack of any length: slice by slice, then linked across slices.

    A few slices are in memory at a time. After any interruption the same call goes on where it was,
    with the same result.

    Parameters
    ----------
    image : path, array of shape (Z, H, W), or source
        As for :func:`~sam_plugins.segment_large`; the slices of an array go along its first axis.
    output : path
        Folder of the labels, an OME-Zarr of shape (Z, H, W).
    model : Model, str or path
    axis : str
        Letter of the axis of a file that the slices go along.
    voxel_size_zyx : (float, float, float)
        Lengths of a voxel, in one unit.
    mode : {"auto", "grid"}
        As for :func:`~sam_plugins.segment`.
    channels : int, sequence or array of int, or mapping of colour name to int, optional
        As for :func:`~sam_plugins.segment`.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of some of the slices.
    channel_axis : int, optional
        Axis of the channels of one slice.
    tile : int, optional
        As for :func:`~sam_plugins.segment_large`; the windows are of the middle slice.
    halo : int, optional
        As for :func:`~sam_plugins.segment_large`.
    options : SegmentOptions, optional
        How a tile is segmented.
    link : LinkOptions, optional
        How objects of slices are linked, split, merged and filtered.
    overwrite : bool
        As for :func:`~sam_plugins.segment_large`.
    progress : callable, optional
        Called with the steps done and the steps in all.

    Returns
    -------
    LargeSegmentation
        The table has the columns ``label``, ``score``, ``voxels``, ``first_slice`` and
        ``last_slice``.

    Raises
    ------
    ImageError, OutputError, UnsuitableModelError, UnknownModelError, WeightsError, ValueError
        As for :func:`~sam_plugins.segment_large`.
    MemoryLimitError
        If a few slices do not fit into memory.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    job = plan_stack(
        source_of(image, channels, limits, channel_axis),
        output,
        loaded,
        axis=axis,
        voxel_size_zyx=voxel_size_zyx,
        mode=mode,
        tile=tile,
        halo=halo,
        options=options,
        link=link,
        overwrite=overwrite,
    )
    find = model_finder(loaded, job.mode, job.options)
    return run_stack(job, output, find, link=link, overwrite=overwrite, progress=progress)


def plan_stack(
    source: Source,
    output: str | os.PathLike[str],
    model: Model,
    *,
    axis: str,
    voxel_size_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0),
    mode: str = "auto",
    tile: int | None = None,
    halo: int | None = None,
    options: SegmentOptions | None = None,
    link: LinkOptions | None = None,
    overwrite: bool = False,
) -> TileJob:
    """Return the job of a stack, with tiles that suit its objects, or those it was begun with.

    Parameters and errors are those of :func:`segment_large_stack`.
    """
    if mode == "auto":
        require_instance_decoder(model)
    chosen = options or usual_options(model, mode)
    length = source.slices(axis)
    contrast = _contrast(source, axis, length)
    size = None if overwrite else earlier_size(Path(output), work_folder(output))
    with source.at(axis, length // 2).open() as picture:
        if size is None or tile is not None or halo is not None:
            longest = model.preprocessing.max_long_side
            shown = replace(picture, limits=contrast, sample=None)
            look = model_glance(model, mode, chosen)
            size = tile_size(shown, longest, look, tile=tile, halo=halo)
        plan = TilePlan(picture.size_hw, size.tile, size.halo)
    return TileJob(
        source=source,
        plan=plan,
        contrast=contrast,
        model_id=model.model_id,
        mode=mode,
        options=chosen,
        folder=work_folder(output),
        join=JoinOptions(chosen.max_iou, chosen.max_containment),
        extra={
            "slices": [axis, length],
            "voxel_size_zyx": list(voxel_size_zyx),
            "link": asdict(link or LinkOptions()),
        },
    )


def run_stack(
    job: TileJob,
    output: str | os.PathLike[str],
    find: Finder,
    *,
    link: LinkOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LargeSegmentation:
    """Do the job of a stack in this process, from where it was left."""
    path = Path(output)
    done = finished(job, path, overwrite=overwrite)
    if done is not None:
        return done
    height, width = job.plan.size_hw
    require_memory(
        _BYTES_PER_PIXEL * height * width,
        f"linking slices of {height} x {width} pixels",
        lambda _: "take a coarser level of the pyramid",
    )
    job.begin()
    down, *across = job.extra["voxel_size_zyx"]
    jobs = slice_jobs(job)
    length = len(jobs)
    for index, one in enumerate(jobs):
        _report(progress, index, 3 * length)
        segment_slice(one, find)
    labels = LabelPyramid(job.folder / "labels.zarr", (length, height, width), _CHUNK)
    tracks = LabelPyramid(job.folder / "tracks.zarr", (length, height, width), _CHUNK)
    tracks.create()
    journal = LinkFolder(job.folder / "linked", tracks.array())
    if not labels.path.is_dir():  # Killed after the labels got their name: they hold these slices.
        journal.forget_voxels()
    labels.create(
        name=path.name.removesuffix(".zarr"), voxel_size=tuple(job.extra["voxel_size_zyx"])
    )
    found = link_slices(
        lambda index: slice_objects(jobs[index]),
        labels.array(),
        link=link,
        steps_per_pixel=down / (sum(across) / 2),
        progress=None if progress is None else partial(_after, progress, length),
        journal=journal,
    )
    for level in range(1, labels.levels):
        for _ in labels.coarsen(level):
            _report(progress, 3 * length, 3 * length)
    _write_table(job.folder / "objects.csv", found)
    publish(job, labels.path, path, len(found), overwrite=overwrite)
    _report(progress, 3 * length, 3 * length)
    result = finished(job, path)
    assert result is not None
    return result


def slice_jobs(job: TileJob) -> list[TileJob]:
    """Return the jobs of the slices of a stack: any process can do any of them."""
    axis, length = job.extra["slices"]
    return [
        replace(
            job, source=job.source.at(axis, index), folder=job.folder / "slices" / f"{index:06d}"
        )
        for index in range(length)
    ]


def segment_slice(job: TileJob, find: Finder) -> None:
    """Segment the tiles of a slice that are not done."""
    waiting = job.waiting()
    if not waiting:
        return
    job.make_folders()
    with job.source.open() as picture:
        for index in waiting:
            segment_tile(job, index, find, picture=picture)


def slice_objects(job: TileJob) -> FoundInSlice:
    """Return the objects of a slice whose tiles are done."""
    if len(job.plan) == 1:
        only = read_tile(job.tile_path(0))
        return FoundInSlice(only.labels.astype(np.int32), only.scores)
    numbering = number_objects(job)
    labels = np.zeros(job.plan.size_hw, np.int32)
    for tile in job.plan:
        labels[tile.core] = paint_core(job, tile.index, numbering)
    return FoundInSlice(labels, numbering.joined.scores)


def _contrast(source: Source, axis: str, length: int) -> Limits | list[Limits]:
    """Return the limits of a stack, estimated on some of its slices."""
    if source.limits is not None:
        with source.at(axis, 0).open() as picture:
            return picture.contrast
    places = np.unique(np.linspace(0, length - 1, _SAMPLED_SLICES).round().astype(int))
    samples: list[npt.NDArray[Any]] = []
    for place in places.tolist():
        with source.at(axis, place).open() as picture:
            channels, of_channels = picture.channels, picture.channel_axis
            samples.append(picture.sampled(_SAMPLED_PER_SLICE))
    rows = 1 if of_channels == 0 else 0
    return contrast_limits(np.concatenate(samples, rows), channels, channel_axis=of_channels)


def _write_table(path: Path, found: VolumeSegmentation) -> None:
    """Write a row for each object."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for row in _rows(found):
            rows.writerow(row)


def _rows(found: VolumeSegmentation) -> Iterator[tuple[object, ...]]:
    """Yield the figures of each object."""
    figures = zip(found.scores, found.voxels, found.extents, strict=True)
    for place, (score, voxels, (first, last)) in enumerate(figures):
        yield place + 1, f"{score:.6f}", int(voxels), int(first), int(last)


def _after(progress: Progress, before: int, done: int, total: int) -> None:
    """Tell how far linking is, after the slices."""
    progress(before + done, before + total)


def _report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how far the work is."""
    if progress is not None:
        progress(done, total)
