"""Pictures that are segmented by tiles: the options, and when that is done without being asked."""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import complain, mention, step_progress
from sam_plugins.cli.results import LARGE_ENDING, Job
from sam_plugins.cli.view import View

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core


@dataclass(frozen=True)
class TileChoice:
    """Whether a picture is segmented by tiles.

    Parameters
    ----------
    tile : int, optional
        Side of the tiles, which are then used whatever the size of the picture.
    is_refused : bool
        Whether they are never used.
    """

    tile: int | None = None
    is_refused: bool = False

    def wants_tiles(self, path: Path, view: View, core: Core) -> bool:
        """Return whether a picture, of which no pixel is read, is segmented by tiles.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        if self.is_refused:
            return False
        return self.tile is not None or core.needs_tiles(_size_of(path, view))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "large pictures",
        "Pictures of more than twice the model's longest input are segmented tile by tile, at "
        "their own resolution; the labels are then written as OME-Zarr, NAME_labels.zarr, and the "
        "table as CSV. An interrupted run goes on where it was.",
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--tile", type=_side, metavar="PIXELS",
        help="segment by tiles of this side, whatever the size of the picture; by default they "
        "suit its objects",
    )  # fmt: skip
    either.add_argument(
        "--no-tiles", action="store_true", help="reduce large pictures to the model's input"
    )


def choice_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> TileChoice:
    """Return what was chosen; leave with a usage error where it contradicts other options."""
    if args.tile is not None and (
        args.point or args.negative or args.box or args.like or args.like_box or args.like_mask
        or args.text
    ):  # fmt: skip
        parser.error("--tile finds every object of a picture: give it without prompts")
    return TileChoice(args.tile, args.no_tiles)


def segment_by_tiles(
    job: Job, core: Core, mode: str, view: View, choice: TileChoice
) -> dict[str, Any]:
    """Segment one picture by tiles, and return what was done for the summary.

    Raises
    ------
    SamPluginsError
        As :func:`~sam_plugins.segment_large` raises them.
    """
    from sam_plugins.model.large.sources import FileSource

    start = time.perf_counter()
    limits = view.limits
    source = FileSource(
        str(job.image),
        plane=view.plane,
        channels=view.channels,
        limits=limits[0] if limits is not None and len(limits) == 1 else limits,
        level=view.level,
        axes=view.axes,
    )
    output = job.folder / f"{job.name}{LARGE_ENDING}"
    try:
        with step_progress(job.name) as progress:
            found = core.by_tiles(
                source, output, mode, tile=choice.tile, overwrite=job.overwrite, progress=progress
            )
    except KeyboardInterrupt:
        complain(f"{job.image}: what is done is kept; the same command goes on from there")
        raise
    seconds = time.perf_counter() - start
    mention(f"{job.image}: {found.count} objects in {seconds:.1f} s -> {found.path}")
    return {
        "image": str(job.image),
        "objects": found.count,
        "seconds": round(seconds, 3),
        "files": {"labels": str(found.path), "objects": str(found.table)},
    }


def _size_of(path: Path, view: View) -> tuple[int, int]:
    """Return height and width of a picture."""
    from sam_plugins.model.io.images import ImageWarning, open_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)  # it is said when the picture is read
        with open_image(path, level=view.level, axes=view.axes) as image:
            lengths = dict(zip(image.axes, image.pixels.shape, strict=True))
    return int(lengths["Y"]), int(lengths["X"])


def _side(text: str) -> int:
    """Return the side of a tile."""
    if not text.isdecimal() or int(text) < 64:
        raise argparse.ArgumentTypeError(f"expected the side of a tile, 64 or more, got {text!r}")
    return int(text)
