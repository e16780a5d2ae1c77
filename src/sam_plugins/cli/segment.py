"""``sam-plugins segment``: pictures in, label images, overlays and tables of objects out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.cli import arguments, scheduler, search, stacks, tiles
from sam_plugins.cli.console import mention, say_json
from sam_plugins.cli.divided import count_parts
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.segment_jobs import Order, Summary, segment_jobs, writable_folder
from sam_plugins.cli.view import View, read_rgb
from sam_plugins.errors import SamPluginsError, UnreadableImageError

if TYPE_CHECKING:
    from sam_plugins.cli.results import Job

MODES = ("auto", "grid")
MASKS = (1, 2, 3)


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "segment",
        parents=[common],
        help="segment pictures",
        description="Segment every object of the pictures, the object that points and boxes ask "
        "for, all objects like some, or those that words name. Writes NAME_labels.tif, "
        "NAME_overlay.png and NAME_objects.json.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files (TIFF, OME-TIFF, PNG, JPEG, WebP, BMP, GIF, Zarr, OME-Zarr), folders or "
        "patterns",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder of the results"
    )
    arguments.add_model_options(parser)
    arguments.add_running_options(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="without prompts: points from the model's instance decoder (auto, as without this "
        "option), or a grid",
    )
    _add_prompts(parser)
    search.add_options(parser)
    add_view_options(parser)
    scheduler.add_option(parser, "pictures")
    tiles.add_options(parser)
    stacks.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--overwrite", action="store_true", help="replace results even where somebody changed them"
    )
    again.add_argument(
        "--resume", action="store_true",
        help="pass over pictures whose results are complete, for the same file, model and options",
    )  # fmt: skip
    parser.set_defaults(run=lambda args: run(args, parser))


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    """Add the options that ask for one object."""
    prompts = parser.add_argument_group("prompts, in pixels of the image")
    prompts.add_argument(
        "--point", action="append", type=arguments.point, default=[], metavar="X,Y",
        help="a point inside of the object; several refine it",
    )  # fmt: skip
    prompts.add_argument(
        "--negative", action="append", type=arguments.point, default=[], metavar="X,Y",
        help="a point outside of the object",
    )  # fmt: skip
    prompts.add_argument(
        "--box", action="append", type=arguments.box, default=[], metavar="X0,Y0,X1,Y1",
        help="a box around the object; several boxes are several objects",
    )  # fmt: skip
    prompts.add_argument(
        "--mask", type=int, choices=MASKS, metavar="N",
        help="which of the three masks of a single point: 1, 2 or 3 (the most confident one)",
    )  # fmt: skip


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the model sees."""
    view = parser.add_argument_group("what the model sees")
    view.add_argument(
        "--channels", type=arguments.channels, metavar="MAP",
        help="channels by number or name: red=0,green=DAPI, or 0,2",
    )  # fmt: skip
    view.add_argument(
        "--limits", action="append", type=arguments.limits, metavar="LOW,HIGH",
        help="values shown as black and white (robust percentiles); repeat for each channel",
    )  # fmt: skip
    view.add_argument(
        "--plane", type=arguments.plane, metavar="N", help="plane of a stack: 5, or Z=5,T=0"
    )
    view.add_argument("--level", type=int, default=0, help="level of a pyramid, 0 is the finest")
    view.add_argument("--axes", help="axes where the file does not tell them, such as CYX")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Segment all images; return the exit code."""
    _refuse_contradictions(args, parser)
    from sam_plugins.cli.core import PromptChoice, Running
    from sam_plugins.model.io.leftovers import remove_leftovers

    view = View(args.channels, args.limits, args.plane, args.level, args.axes)
    prompts = PromptChoice(args.point, args.negative, args.box, args.mask)
    wanted = search.search_of(args, prompts, partial(read_rgb, view=view))
    choice = tiles.choice_of(args, parser)
    stack = stacks.choice_of(args, parser)
    summary = Summary(failures=Failures(args.debug))
    args.so_far = summary.document
    folder = Path(args.output)
    remove_leftovers(folder)  # before it is decided what may be replaced
    jobs = _plan(args.images, folder, summary, args)
    search.refuse_many(args, len(jobs), parser)
    if jobs:
        mode = args.mode or MODES[0]
        running = Running(args.device, args.precision, args.backend)
        order = Order(args.model, running, mode, prompts, view, wanted, choice, stack)
        _segment_all(jobs, order, summary, args)
    if args.json:
        say_json(summary.document())
    summary.failures.summarise(len(summary.results), "segmented")
    return 1 if summary.failures else 0


def _refuse_contradictions(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error where options exclude each other."""
    search.refuse_contradictions(args, parser)
    has_points = args.point or args.negative
    if has_points and len(args.box) > 1:
        parser.error("points refine one object: give them with at most one --box")
    if args.negative and not args.point and not args.box and not args.text:
        parser.error("--negative needs a --point or a --box that says what is meant")
    if args.mode and (has_points or args.box):
        parser.error(
            f"--mode {args.mode} finds every object without prompts: leave it out, or leave out "
            "--point, --negative and --box"
        )
    is_ambiguous = len(args.point) == 1 and not args.negative and not args.box
    if args.mask is not None and not is_ambiguous:
        parser.error(
            "--mask chooses among the masks of a single --point: every other prompt has one"
        )


def _segment_all(
    jobs: Sequence[Job], order: Order, summary: Summary, args: argparse.Namespace
) -> None:
    """Segment pictures where the options say."""
    images = [job.image for job in jobs]
    split = partial(count_parts, images, order)
    with scheduler.opened(
        args, len(jobs), files=images, folder=writable_folder(jobs), split=split
    ) as runner:
        segment_jobs(jobs, order, summary, runner)


def _plan(
    named: Sequence[str], folder: Path, summary: Summary, args: argparse.Namespace
) -> list[Job]:
    """Return the jobs that can be tried; report what cannot."""
    from sam_plugins.cli.inputs import find_images, plan_jobs
    from sam_plugins.cli.results import is_own_result

    found: list[Path] = []
    for name in named:
        try:
            found += find_images(name)
        except SamPluginsError as error:
            summary.failures.add(name, error)
    images = [image for image in found if not is_own_result(image)]
    if len(images) < len(found):
        mention(f"left out {len(found) - len(images)} results of earlier runs")
    if found and not images:
        reason = "it is a result of an earlier run; name the pictures themselves"
        summary.failures.add(found[0], UnreadableImageError(f"cannot segment {found[0]}: {reason}"))
    planned, clashes = plan_jobs(images, folder, overwrite=args.overwrite, resume=args.resume)
    for image, clash in clashes:
        summary.failures.add(image, clash)
    jobs = []
    for job in planned:
        try:
            job.refuse_to_overwrite()
            jobs.append(job)
        except SamPluginsError as error:
            summary.failures.add(job.image, error)
    return jobs
