"""``sam-plugins segment``: pictures in, label images, overlays and tables of objects out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__
from sam_plugins.cli import arguments, scheduler, search, tiles
from sam_plugins.cli.console import mention, say_json, step_progress
from sam_plugins.cli.done import Done
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.view import View, read_rgb, smaller
from sam_plugins.errors import ClusterError, SamPluginsError, UnreadableImageError

if TYPE_CHECKING:
    from sam_plugins.cli.core import Core, PromptChoice, Running
    from sam_plugins.cli.results import Job
    from sam_plugins.cli.search import Search
    from sam_plugins.model.cluster.outcome import Kept, Runner

MODES = ("auto", "grid")
MASKS = (1, 2, 3)


@dataclass
class Summary:
    """What was done, for people and for ``--json``."""

    model_id: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)

    def document(self) -> dict[str, Any]:
        """Return the values for ``--json``, finished or not."""
        return {"model": self.model_id, "results": self.results, "failed": self.failures.entries}


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
        help="files (TIFF, OME-TIFF, PNG, JPEG, WebP, BMP, Zarr, OME-Zarr), folders or patterns",
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
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results even where somebody changed them"
    )
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
    summary = Summary(failures=Failures(args.debug))
    args.so_far = summary.document
    folder = Path(args.output)
    remove_leftovers(folder)  # before it is decided what may be replaced
    jobs = _plan(args.images, folder, summary, overwrite=args.overwrite)
    search.refuse_many(args, len(jobs), parser)
    if jobs:
        mode = args.mode or MODES[0]
        running = Running(args.device, args.precision, args.backend)
        order = Order(args.model, running, mode, prompts, view, wanted, choice)
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


@dataclass(frozen=True)
class Order:
    """What is wanted of every picture; goes to workers as it is.

    Parameters
    ----------
    model : str
        By name or file.
    running : Running
        Where, how exactly and by what the model is run.
    mode : str
        One of :data:`MODES`.
    prompts : PromptChoice
    view : View
    wanted : Search, optional
    choice : TileChoice, optional
        Whether large pictures are segmented by tiles; without it none is.
    """

    model: str
    running: Running
    mode: str
    prompts: PromptChoice
    view: View
    wanted: Search | None = None
    choice: tiles.TileChoice | None = None

    def wants_tiles(self, image: Path, core: Core) -> bool:
        """Return whether a picture is segmented by tiles; reads no pixel of it.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        if self.choice is None or self.prompts or self.wanted:
            return False
        return self.choice.wants_tiles(image, self.view, core)

    def elsewhere(self) -> Order:
        """Return the order with names that mean the same in another folder."""
        wanted = None if self.wanted is None else self.wanted.elsewhere(scheduler.absolute)
        return replace(self, model=scheduler.absolute(self.model), wanted=wanted)


def _segment_all(
    jobs: Sequence[Job], order: Order, summary: Summary, args: argparse.Namespace
) -> None:
    """Segment pictures where the options say."""
    images = [job.image for job in jobs]
    split = partial(tiles.count_tasks, images, order)
    with scheduler.opened(
        args, len(jobs), files=images, folder=_folder(jobs), split=split
    ) as runner:
        segment_jobs(jobs, order, summary, runner)


def segment_jobs(jobs: Sequence[Job], order: Order, summary: Summary, runner: Runner) -> None:
    """Segment images; a failure is reported and the rest go on.

    Parameters
    ----------
    jobs : sequence of Job
        At least one.
    order : Order
    summary : Summary
        Takes results, in the order of the jobs, and failures.
    runner : Runner
        Where.

    Raises
    ------
    SamPluginsError
        If the model cannot be had, or the folder of the results not be written to.
    """
    _folder(jobs)  # before the model is loaded and works for nothing
    there = order.elsewhere() if runner.is_distributed else order
    summary.model_id = runner.call(partial(_model_id, there))
    named = jobs
    if runner.is_distributed:
        named = [scheduler.with_absolute_paths(job) for job in jobs]
    results: dict[int, dict[str, Any]] = {}
    large: list[int] = []

    def keep(index: int, done: Done) -> None:
        job = jobs[index]
        results[index] = _result(job, done)
        summary.results[:] = [results[place] for place in sorted(results)]
        where = results[index]["files"]["labels"]
        mention(f"{job.image}: {done.count} objects in {done.seconds:.1f} s -> {where}")

    function = partial(_segment_one, there, leaves_large=runner.is_distributed)
    for outcome in scheduler.performed(runner, function, named, "image"):
        job = jobs[outcome.index]
        with summary.failures.caught(job.image, partial(smaller, job.image, order.view)):
            done = outcome.result()
            _require_same_model(done.model_id, summary.model_id)
            if done.is_left:
                large.append(outcome.index)
            else:
                keep(outcome.index, done)
    for index in sorted(large):  # each of them keeps all workers busy
        job = jobs[index]
        with summary.failures.caught(job.image, partial(smaller, job.image, order.view)):
            keep(index, tiles.segment_on(runner, partial(_core, there), there, named[index], job))


def _require_same_model(there: str, here: str) -> None:
    """Refuse a worker with other weights."""
    if there != here:
        raise ClusterError(
            f"a worker has other weights ({there}) than the others ({here}): the results were "
            "written; give all the same file and segment again"
        )


def _folder(jobs: Sequence[Job]) -> Path:
    """Make the folder of the results where there is none; refuse one that is closed."""
    from sam_plugins.model.io.atomic import make_folder, require_writable_folder

    folder = make_folder(jobs[0].folder)
    require_writable_folder(folder)
    return folder


def _core(order: Order, kept: Kept) -> Core:
    """Return the model of an order, loaded once in each process."""
    key = ("core", order.model, order.running)
    return kept.get(key, lambda: load_core(order.model, order.running))


def _model_id(order: Order, kept: Kept) -> str:
    """Load the model; return its name and digest."""
    return _core(order, kept).model_id


def load_core(model: str, running: Running) -> Core:
    """Load the model; the first moment at which torch is imported."""
    from sam_plugins.cli.torch_core import TorchCore

    return TorchCore.load(model, running)


def _plan(named: Sequence[str], folder: Path, summary: Summary, *, overwrite: bool) -> list[Job]:
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
    planned, clashes = plan_jobs(images, folder, overwrite=overwrite)
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


def _result(job: Job, done: Done) -> dict[str, Any]:
    """Return a picture for the summary."""
    return {
        "image": str(job.image),
        "objects": done.count,
        "seconds": round(done.seconds, 3),
        "files": {kind: str(path) for kind, path in (done.files or job.results).items()},
    }


def _segment_one(order: Order, kept: Kept, job: Job, *, leaves_large: bool = False) -> Done:
    """Segment one image and write its results; one that needs tiles may be left to all workers."""
    from sam_plugins.cli.results import write_results

    core, wanted = _core(order, kept), order.wanted
    if order.choice and order.wants_tiles(job.image, core):
        if leaves_large:
            return Done(core.model_id, is_left=True)
        return tiles.segment_by_tiles(job, core, order.mode, order.view, order.choice)
    start = time.perf_counter()
    rgb = read_rgb(job.image, order.view)
    if wanted:
        with step_progress(job.name) as progress:
            found = wanted.find(core, rgb, order.mode, progress)
    elif order.prompts:
        found = core.prompted(rgb, order.prompts)
    else:
        with step_progress(job.name) as progress:
            found = core.automatic(rgb, order.mode, progress)
    seconds = time.perf_counter() - start
    mode = wanted.mode if wanted else order.mode
    described = _describe(job, core, order.prompts, mode, order.view)
    if wanted:
        described |= {**wanted.described(), **found.notes}
    return Done(core.model_id, write_results(job, rgb, found, described), seconds)


def _describe(job: Job, core: Core, prompts: PromptChoice, mode: str, view: View) -> dict[str, Any]:
    """Return where the objects come from, for the table."""
    described: dict[str, Any] = {
        "image": job.image.name,
        "model": core.model_id,
        "software": f"sam-plugins {__version__}",
        "mode": mode if mode in {"text", "exemplars"} or not prompts else "prompts",
    }
    if prompts:
        described["prompts"] = {
            "points_xy": list(prompts.points_xy),
            "negatives_xy": list(prompts.negatives_xy),
            "boxes_xyxy": list(prompts.boxes_xyxy),
        }
        if prompts.mask is not None:
            described["prompts"]["mask"] = prompts.mask
    if chosen := view.chosen():
        described["view"] = chosen
    return described
