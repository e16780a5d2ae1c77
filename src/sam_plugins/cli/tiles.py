"""Pictures that are segmented by tiles: the options, and when that is done without being asked."""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.cli.console import complain, step_progress
from sam_plugins.cli.done import Done
from sam_plugins.cli.results import LARGE_ENDING, Job
from sam_plugins.cli.view import View, require_plane

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core, PromptChoice
    from sam_plugins.cli.segment_jobs import Order
    from sam_plugins.model.large.results import LargeSegmentation
    from sam_plugins.model.large.sources import FileSource


_TILES_SHARE = 1 / 2  # of the steps; the others paint what was found in them
_LARGE, _USUAL_TILE = 2048, 512  # with the longest input that most models have, 1024


@dataclass(frozen=True)
class TileChoice:
    """Whether a picture is segmented by tiles.

    Parameters
    ----------
    tile : int, optional
        Side of the tiles, which are then used whatever the size of the picture.
    is_refused : bool
        Whether they are never used.
    coarse : bool
        Whether the whole picture is looked at once more, reduced, for objects larger than tiles
        show well.
    """

    tile: int | None = None
    is_refused: bool = False
    coarse: bool = False

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


NO_TILES = TileChoice(is_refused=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "large pictures",
        "Pictures of more than twice the model's longest input are segmented tile by tile, at "
        "their own resolution, and prompts are answered at the level of a pyramid that the object "
        "asks for; the labels are then written as OME-Zarr, NAME_labels.zarr, and the table as "
        "CSV. An interrupted run goes on where it was.",
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--tile", type=_side, metavar="PIXELS",
        help="segment by tiles of this side, or answer prompts in windows of it, whatever the size "
        "of the picture; by default tiles suit its objects",
    )  # fmt: skip
    either.add_argument(
        "--no-tiles",
        action="store_true",
        help="reduce every picture to the model's input, and look at none in windows",
    )
    group.add_argument(
        "--coarse", action="store_true",
        help="look at the whole picture once more, reduced: where one object there holds two to "
        "four of the tiles, they become one (objects that touch may be taken for one, too)",
    )  # fmt: skip


def choice_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> TileChoice:
    """Return what was chosen; leave with a usage error where it contradicts other options."""
    if args.tile is not None and (args.like or args.like_box or args.like_mask or args.text):
        parser.error("--tile goes without --like, --like-box, --like-mask and --text")
    asks = (args.point, args.negative, args.box, args.like, args.like_box, args.like_mask)
    if args.coarse and (any(asks) or args.text or args.stack or args.no_tiles):
        parser.error(
            "--coarse is for every object of pictures that are segmented by tiles: it goes without "
            "prompts, --stack and --no-tiles"
        )
    return TileChoice(args.tile, args.no_tiles, args.coarse)


def count_tasks(images: Sequence[Path], order: Order) -> int:
    """Return about how many tasks pictures are: each one, or its tiles where it is large.

    Asked before there is a model, to know how many processes pay.
    """
    choice = order.choice
    if choice.is_refused or order.prompts or order.wanted:
        return len(images)
    count = 0
    for image in images:
        height = width = 0
        with contextlib.suppress(Exception):  # said when its turn comes
            height, width = _size_of(image, order.view)
        is_large = choice.tile is not None or max(height, width) > _LARGE
        side = choice.tile or _USUAL_TILE
        count += max(1, -(-height // side) * -(-width // side)) if is_large else 1
    return count


def segment_by_tiles(job: Job, core: Core, mode: str, view: View, choice: TileChoice) -> Done:
    """Segment one picture by tiles, one after the other, and return what was done.

    Raises
    ------
    SamPluginsError
        As :func:`~sam_plugins.segment_large` raises them.
    """
    start = time.perf_counter()
    with step_progress(job.name, "tiles", _TILES_SHARE) as progress, told_what_is_kept(job.image):
        found = core.by_tiles(
            source_of(job, view.of_file(job.image)),
            large_output(job),
            mode,
            choice,
            overwrite=job.overwrite,
            progress=progress,
        )
    return done_with(found, core.model_id, start)


def answer_prompts(
    job: Job, core: Core, prompts: PromptChoice, view: View, choice: TileChoice
) -> Done:
    """Segment the prompted objects of one large picture, and return what was done.

    Raises
    ------
    SamPluginsError, ValueError
        As :func:`~sam_plugins.model.large.prompted.segment_prompted` raises them.
    """
    start = time.perf_counter()
    source = source_of(job, view.of_file(job.image))
    found = core.prompted_large(
        source, large_output(job), prompts, tile=choice.tile, overwrite=job.overwrite
    )
    return done_with(found, core.model_id, start)


def done_with(found: LargeSegmentation, model_id: str, start: float) -> Done:
    """Return what was done since a moment of ``time.perf_counter``."""
    files = {"labels": found.path, "objects": found.table}
    return Done(model_id, found.count, time.perf_counter() - start, files)


@contextlib.contextmanager
def told_what_is_kept(image: Path) -> Iterator[None]:
    """Say on an interruption that the work can go on."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"{image}: what is done is kept; the same command goes on from there")
        raise


def large_output(job: Job) -> Path:
    """Return where the labels of a large picture go."""
    return job.folder / f"{job.name}{LARGE_ENDING}"


def source_of(job: Job, view: View) -> FileSource:
    """Return a picture as it is read by tiles."""
    from sam_plugins.model.large.sources import FileSource

    limits = view.limits
    return FileSource(
        str(job.image),
        plane=view.plane,
        channels=view.channels,
        limits=limits[0] if limits is not None and len(limits) == 1 else limits,
        level=view.level,
        axes=view.axes,
    )


def _size_of(path: Path, view: View) -> tuple[int, int]:
    """Return height and width of a picture."""
    from sam_plugins.model.io.images import ImageWarning, open_image

    view = view.of_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)  # it is said when the picture is read
        with open_image(path, level=view.level, axes=view.axes) as image:
            require_plane(image, view)
            lengths = dict(zip(image.axes, image.pixels.shape, strict=True))
    return int(lengths["Y"]), int(lengths["X"])


def _side(text: str) -> int:
    """Return the side of a tile."""
    if not text.isdecimal() or int(text) < 64:
        raise argparse.ArgumentTypeError(f"expected the side of a tile, 64 or more, got {text!r}")
    return int(text)
