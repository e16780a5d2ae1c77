"""Stacks on the command line: every object, through the slices."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.cli import arguments
from sam_plugins.cli.console import step_progress
from sam_plugins.cli.tiles import done_with, large_output, source_of, told_what_is_kept
from sam_plugins.cli.view import View
from sam_plugins.errors import UnusableImageError

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core
    from sam_plugins.cli.done import Done
    from sam_plugins.cli.results import Job
    from sam_plugins.cli.segment_jobs import Order

_SLICES_SHARE = 1 / 3  # of the steps; the others link what was found in them


@dataclass(frozen=True)
class StackChoice:
    """What is said of stacks.

    Parameters
    ----------
    voxel_size_zyx : (float, float, float)
        Lengths of a voxel, in one unit.
    """

    voxel_size_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "stacks",
        "Slices are segmented one after the other and linked; a few of them are in memory. The "
        "labels are written as OME-Zarr, NAME_labels.zarr, and the table as CSV. An interrupted "
        "run goes on where it was.",
    )
    group.add_argument(
        "--stack", action="store_true",
        help="find every object of each file through all slices along its one axis; --plane T=0 "
        "fixes the others",
    )  # fmt: skip
    group.add_argument(
        "--voxel-size", type=arguments.voxel_size, metavar="Z,Y,X",
        help="lengths of a voxel (1,1,1)",
    )  # fmt: skip


def choice_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> StackChoice | None:
    """Return what was chosen; leave with a usage error where it contradicts other options."""
    if not args.stack:
        if args.voxel_size is not None:
            parser.error("--voxel-size belongs to --stack")
        return None
    if (
        args.point or args.negative or args.box or args.like or args.like_box or args.like_mask
        or args.text
    ):  # fmt: skip
        parser.error(
            "--stack finds every object of a stack: give it without prompts, or choose one plane "
            "with --plane"
        )
    if args.no_tiles:
        parser.error("--stack divides large slices into tiles: leave out --no-tiles")
    if isinstance(args.plane, int):
        parser.error("--stack takes every slice: name a place along another axis, as --plane T=0")
    return StackChoice(args.voxel_size or StackChoice.voxel_size_zyx)


def segment_stack(job: Job, core: Core, order: Order) -> Done:
    """Segment one stack and write its results.

    Raises
    ------
    SamPluginsError
        As :func:`~sam_plugins.segment_large_stack` raises them, or if it is no stack along one
        axis.
    """
    assert order.stack is not None
    start = time.perf_counter()
    axis, _ = slices_of(job.image, order.view)
    with (
        step_progress(job.name, "slices", _SLICES_SHARE) as progress,
        told_what_is_kept(job.image),
    ):
        found = core.stack(
            source_of(job, order.view),
            large_output(job),
            order.mode,
            axis,
            voxel_size_zyx=order.stack.voxel_size_zyx,
            tile=order.choice.tile,
            overwrite=job.overwrite,
            progress=progress,
        )
    return done_with(found, core.model_id, start)


def count_slices(images: Sequence[Path], order: Order) -> int:
    """Return how many slices stacks have; what is none counts as one."""
    count = 0
    for image in images:
        length = 1
        with contextlib.suppress(Exception):  # said when its turn comes
            _, length = slices_of(image, order.view)
        count += length
    return count


def slices_of(path: Path, view: View) -> tuple[str, int]:
    """Return the axis that the slices of a stack go along, the only one that is not fixed.

    Returns
    -------
    axis : str
        Its letter.
    length : int
        How many slices there are.

    Raises
    ------
    ImageError
        If there is none, or more than one, or the file cannot be read.
    """
    from sam_plugins.model.io.images import open_image

    fixed = {axis.upper() for axis in view.plane} if isinstance(view.plane, Mapping) else set()
    with open_image(path, level=view.level, axes=view.axes) as image:
        lengths = {axis: n for axis, n in image.stack_axes.items() if n > 1}
    free = [axis for axis in lengths if axis not in fixed]
    if len(free) == 1:
        return free[0], lengths[free[0]]
    if not lengths:
        raise UnusableImageError(f"{path} is a single picture and no stack: leave out --stack")
    if not free:
        raise UnusableImageError(
            f"{path} is a stack along {', '.join(lengths)}: --plane must leave one of them free, "
            "or leave out --stack"
        )
    named = ", ".join(f"{axis} ({lengths[axis]} planes)" for axis in free)
    raise UnusableImageError(
        f"{path} is a stack along {named}: --stack takes one of them; fix the others, such as "
        f"--plane {','.join(f'{axis}=0' for axis in free[:-1])}"
    )
