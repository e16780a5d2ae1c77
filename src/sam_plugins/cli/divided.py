"""One large picture, or one stack, on all workers of a cluster: its tiles or slices are tasks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sam_plugins.cli import stacks, tiles
from sam_plugins.cli.console import step_progress
from sam_plugins.cli.done import Done
from sam_plugins.cli.scheduler import performed
from sam_plugins.errors import ClusterError

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core
    from sam_plugins.cli.results import Job
    from sam_plugins.cli.segment_jobs import Order
    from sam_plugins.model.cluster.outcome import Function, Kept, Runner
    from sam_plugins.model.inference.candidates import Progress
    from sam_plugins.model.inference.types import Segmentation
    from sam_plugins.model.large.job import TileJob
    from sam_plugins.model.large.results import LargeSegmentation

Item = TypeVar("Item")

Loads = Callable[["Kept"], "Core"]
"""Loads the model in a worker."""


def count_parts(images: Sequence[Path], order: Order) -> int:
    """Return about into how many tasks pictures can be divided; asked before there is a model."""
    if order.stack is not None:
        return stacks.count_slices(images, order)
    return tiles.count_tasks(images, order)


def segment_on(runner: Runner, core: Loads, order: Order, there: Job, job: Job) -> Done:
    """Segment the parts of one picture or stack on workers; put together and written from here.

    Parameters
    ----------
    runner : Runner
    core : callable
        Loads the model in a worker.
    order : Order
    there, job : Job
        As workers and as people name it.

    Raises
    ------
    SamPluginsError
        As :func:`~sam_plugins.segment_large` and :func:`~sam_plugins.segment_large_stack` raise
        them.
    """
    from sam_plugins.model.large.results import finished

    start = time.perf_counter()
    output = tiles.large_output(there)
    planned = runner.call(partial(_planned, core, there, order))
    with tiles.told_what_is_kept(job.image):
        found = finished(planned, output, overwrite=job.overwrite)
        if found is None:
            planned.begin()
            if order.stack is None:
                tile = partial(_one_tile, core, planned)
                _perform(runner, tile, planned.waiting(), "tile")
            else:
                _perform(runner, partial(_one_slice, core), _waiting_slices(planned), "slice")
            with step_progress(job.name) as progress:
                found = _put_together(planned, output, order, job, progress)
    files = {"labels": job.folder / found.path.name, "objects": job.folder / found.table.name}
    return Done(planned.model_id, found.count, time.perf_counter() - start, files)


def _planned(core: Loads, job: Job, order: Order, kept: Kept) -> TileJob:
    """Plan the tiles in a worker, which has the model."""
    source, output = tiles.source_of(job, order.view.of_file(job.image)), tiles.large_output(job)
    if order.stack is None:
        return core(kept).planned(source, output, order.mode, order.choice, overwrite=job.overwrite)
    axis, _ = stacks.slices_of(job.image, order.view)
    return core(kept).planned_stack(
        source,
        output,
        order.mode,
        axis,
        voxel_size_zyx=order.stack.voxel_size_zyx,
        tile=order.choice.tile,
        overwrite=job.overwrite,
    )


def _perform(
    runner: Runner, function: Function[Item, None], parts: Sequence[Item], unit: str
) -> None:
    """Do the parts that are not done; the first that fails ends it."""
    outcomes = performed(runner, function, parts, unit)
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            outcome.result()


def _one_tile(core: Loads, job: TileJob, kept: Kept, index: int) -> None:
    """Segment one tile in a worker; its result stays on the disk."""
    core(kept).one_tile(job, index)


def _waiting_slices(planned: TileJob) -> list[TileJob]:
    """Return the jobs of the slices that are not done."""
    from sam_plugins.model.large.stack import slice_jobs

    return [one for one in slice_jobs(planned) if one.waiting()]


def _one_slice(core: Loads, kept: Kept, job: TileJob) -> None:
    """Segment one slice in a worker; the results of its tiles stay on the disk."""
    core(kept).one_slice(job)


def _put_together(
    planned: TileJob, output: Path, order: Order, job: Job, progress: Progress | None
) -> LargeSegmentation:
    """Join what was found in tiles, or link what was found in slices, and write it."""
    if order.stack is None:
        from sam_plugins.model.large.automatic import run_job

        return run_job(planned, output, _nothing_left, job.overwrite, progress)
    from sam_plugins.model.large.stack import run_stack

    return run_stack(planned, output, _nothing_left, overwrite=job.overwrite, progress=progress)


def _nothing_left(_rgb: object, _within: object) -> Segmentation:
    """Stand for the model where every tile is done."""
    raise ClusterError(
        "a tile that a worker reported as done is not there; the folder of the results must be the "
        "same on every machine"
    )
