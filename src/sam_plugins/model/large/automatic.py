"""Every object of a picture of any size: tiles segmented, joined, and written in chunks."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.automatic import require_instance_decoder
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.rgb import Channels, Limits
from sam_plugins.model.inference.segment_options import Mode, SegmentOptions, usual_options
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.atomic import make_folder, write_bytes
from sam_plugins.model.large.assemble import Numbering, number_objects, paint_core
from sam_plugins.model.large.coarse import LENGTH_SHARE, CoarseOptions
from sam_plugins.model.large.job import Finder, TileJob, model_finder
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.labels_zarr import LabelPyramid
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.results import (
    LargeSegmentation,
    finished,
    publish,
    work_folder,
)
from sam_plugins.model.large.sizing import earlier_size, model_glance, tile_size
from sam_plugins.model.large.sources import ArraySource, FileSource, Source
from sam_plugins.model.large.tables import CoreFigures, ObjectTable, figures_of
from sam_plugins.model.large.tiles import segment_tile


def segment_large(
    image: str | os.PathLike[str] | npt.NDArray[Any] | SliceableArray | Source,
    output: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] = "default",
    *,
    mode: Mode | str = "auto",
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    channel_axis: int | None = None,
    tile: int | None = None,
    halo: int | None = None,
    options: SegmentOptions | None = None,
    join: JoinOptions | None = None,
    coarse: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LargeSegmentation:
    """Segment every object of a picture of any size, in bounded memory, and write the labels.

    The picture is segmented at its own resolution, tile by tile, and objects are joined across the
    borders. What is done is kept beside the output until all is done: after any interruption, the
    same call goes on where it was, with the same result.

    Parameters
    ----------
    image : path, array of shape (H, W), (H, W, C) or (C, H, W), or source
        A file of any format that :func:`~sam_plugins.read_image` knows (TIFF and Zarr are read in
        parts); NumPy, Zarr or Dask; or a
        :class:`~sam_plugins.model.large.sources.FileSource`, which names a plane or a level.
    output : path
        Folder of the labels, by convention ``NAME_labels.zarr``. The table of objects,
        ``NAME_objects.csv``, is written beside it.
    model : Model, str or path
        A loaded model, or what :func:`~sam_plugins.load_model` takes.
    mode : {"auto", "grid"}
        As for :func:`~sam_plugins.segment`.
    channels : int, sequence or array of int, or mapping of colour name to int, optional
        As for :func:`~sam_plugins.segment`.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of the whole picture.
    channel_axis : int, optional
        Axis of the channels of an array; guessed by default.
    tile : int, optional
        Side of what the model sees at a time, in pixels. By default three windows are looked at:
        objects of few pixels get tiles of half of the model's longest input, which are enlarged,
        and larger ones tiles of all of it.
    halo : int, optional
        By how much the tiles overlap on each side; by default an eighth of ``tile``, or the length
        of the larger objects, up to a quarter of it. Objects of up to twice this length are seen
        whole.
    options : SegmentOptions, optional
        As for :func:`~sam_plugins.segment`.
    join : JoinOptions, optional
        When objects of two tiles are one.
    coarse : bool
        Whether the whole picture is segmented once more, reduced to the model's longest input, and
        large objects that tiles divide become one. For pictures of large objects.
    overwrite : bool
        Whether earlier labels at ``output`` are replaced, when the new ones are complete, and what
        an interrupted run with other settings left is removed.
    progress : callable, optional
        Called before each step with the steps done and the steps in all. An exception that it
        raises stops the work; what is done stays.

    Returns
    -------
    LargeSegmentation
        At once, where the same call was finished before.

    Raises
    ------
    ImageError
        If the picture cannot be read, or is none.
    OutputError
        If ``output`` exists and is of other settings, or cannot be written.
    UnsuitableModelError
        If the model has no instance decoder and ``mode`` is "auto".
    UnknownModelError, WeightsError
        If the model cannot be had.
    MemoryLimitError
        If memory runs out.
    ValueError, TypeError
        As for :func:`~sam_plugins.segment`, or if ``tile`` and ``halo`` leave no core.
    """
    loaded = model if isinstance(model, Model) else load_model(model)
    if mode == "auto":
        require_instance_decoder(loaded)
    chosen = options or usual_options(loaded, mode)
    job = plan_for_model(
        source_of(image, channels, limits, channel_axis),
        output,
        loaded,
        mode=mode,
        options=chosen,
        tile=tile,
        halo=halo,
        join=join,
        coarse=coarse,
        overwrite=overwrite,
    )
    find = model_finder(loaded, mode, chosen)
    return run_job(job, output, find, overwrite, progress)


def source_of(
    image: str | os.PathLike[str] | npt.NDArray[Any] | SliceableArray | Source,
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    channel_axis: int | None = None,
) -> Source:
    """Return the source of a picture that is named, or is an array."""
    if isinstance(image, FileSource | ArraySource):
        return image
    if isinstance(image, str | os.PathLike):
        return FileSource(os.fspath(image), channels=channels, limits=limits)  # type: ignore[arg-type]
    if not hasattr(image, "shape"):
        image = np.asarray(image)
    return ArraySource(image, channels, limits, channel_axis)


def plan_for_model(
    source: Source,
    output: str | os.PathLike[str],
    model: Model,
    *,
    mode: str,
    options: SegmentOptions | None = None,
    tile: int | None = None,
    halo: int | None = None,
    join: JoinOptions | None = None,
    coarse: bool = False,
    overwrite: bool = False,
) -> TileJob:
    """Return the job of a picture, with tiles that suit its objects, or those it was begun with.

    Parameters and errors are those of :func:`segment_large`.
    """
    chosen = options or usual_options(model, mode)
    longest = model.preprocessing.max_long_side
    size = None if overwrite else earlier_size(Path(output), work_folder(output))
    if size is None or tile is not None or halo is not None:
        with source.open() as picture:
            size = tile_size(
                picture.with_contrast(),
                longest,
                model_glance(model, mode, chosen),
                tile=tile,
                halo=halo,
            )
    return plan_job(
        source,
        output,
        model_id=model.model_id,
        mode=mode,
        options=chosen,
        tile=size.tile,
        halo=size.halo,
        join=join,
        coarse=CoarseOptions(longest, max(1, size.tile // LENGTH_SHARE)) if coarse else None,
    )


def plan_job(
    source: Source,
    output: str | os.PathLike[str],
    *,
    model_id: str,
    mode: str,
    options: SegmentOptions,
    tile: int,
    halo: int,
    join: JoinOptions | None = None,
    coarse: CoarseOptions | None = None,
) -> TileJob:
    """Return the job of a picture: opens it, and estimates its contrast where none is given.

    Parameters and errors are those of :func:`segment_large`.
    """
    with source.open() as picture:
        plan = TilePlan(picture.size_hw, tile, halo)
        contrast = picture.contrast
    return TileJob(
        source=source,
        plan=plan,
        contrast=contrast,
        model_id=model_id,
        mode=mode,
        options=options,
        folder=work_folder(output),
        join=join or JoinOptions(options.max_iou, options.max_containment),
        coarse=coarse if len(plan) > 1 else None,
    )


def run_job(
    job: TileJob,
    output: str | os.PathLike[str],
    find: Finder,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LargeSegmentation:
    """Do a job in this process, from where it was left."""
    path = Path(output)
    done = finished(job, path, overwrite=overwrite)
    if done is not None:
        return done
    job.begin()
    total = 2 * len(job.plan)
    with job.source.open() as picture:
        for index in range(len(job.plan)):
            _report(progress, index, total)
            segment_tile(job, index, find, picture=picture)
    for step in assemble(job, path, overwrite=overwrite):
        _report(progress, len(job.plan) + min(step, len(job.plan)), total)
    _report(progress, total, total)
    result = finished(job, path)
    assert result is not None
    return result


def assemble(job: TileJob, output: Path, *, overwrite: bool = False) -> Iterator[int]:
    """Join the objects of all tiles, write the labels and the table, and remove what is not needed.

    Yields
    ------
    int
        Cores that are painted.
    """
    numbering = number_objects(job)
    labels = LabelPyramid(job.folder / "labels.zarr", job.plan.size_hw, job.plan.core)
    if not labels.path.is_dir():  # Killed after the labels got their name: they hold these cores.
        shutil.rmtree(job.folder / "cores", ignore_errors=True)
    labels.create(name=output.name.removesuffix(".zarr"))
    make_folder(job.folder / "cores")
    for index in range(len(job.plan)):
        yield index
        paint(job, index, numbering, labels)
    for level in range(1, labels.levels):
        for _ in labels.coarsen(level):
            yield len(job.plan)
    table = ObjectTable(len(numbering.joined.scores))
    for index in range(len(job.plan)):
        table.add(CoreFigures.read(_core_path(job, index)))
    count = table.write(job.folder / "objects.csv", numbering.joined.scores, numbering.points_xy)
    publish(job, labels.path, output, count, overwrite=overwrite)


def paint(job: TileJob, index: int, numbering: Numbering, labels: LabelPyramid) -> None:
    """Write the labels of one core, unless that has been done, and count their pixels.

    Any number of processes may paint, in any order: a core is made of whole chunks.
    """
    path = _core_path(job, index)
    if zipfile.is_zipfile(path):
        return
    core = job.plan[index].core
    painted = paint_core(job, index, numbering)
    labels.write(core, painted)
    write_bytes(path, figures_of(painted, (core[0].start, core[1].start)).to_bytes())


def _core_path(job: TileJob, index: int) -> Path:
    """Return the file of the figures of a core."""
    return job.folder / "cores" / f"{index:06d}.npz"


def _report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how far the work is."""
    if progress is not None:
        progress(done, total)
