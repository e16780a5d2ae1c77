"""``sam-plugins segment``: pictures in, label images, overlays and tables of objects out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__
from sam_plugins.cli import arguments
from sam_plugins.cli.console import mention, say_json, step_progress, with_progress
from sam_plugins.cli.failures import SMALLER_COPY, Failures
from sam_plugins.errors import SamPluginsError, UnreadableImageError, UnusableImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.cli.core import Core, Found, PromptChoice
    from sam_plugins.cli.inputs import Job

MODES = ("auto", "grid")


@dataclass(frozen=True)
class View:
    """Which pixels of a file the model sees, and how."""

    channels: dict[str, int | str] | list[int | str] | None = None
    limits: Sequence[tuple[float, float]] | None = None
    plane: int | dict[str, int] | None = None
    level: int = 0
    axes: str | None = None


@dataclass
class Summary:
    """What was done, for people and for ``--json``."""

    model_id: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "segment",
        parents=[common],
        help="segment pictures",
        description="Segment every object of the pictures, or the object that points and boxes "
        "ask for. Writes NAME_labels.tif, NAME_overlay.png and NAME_objects.json.",
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
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="auto",
        help="without prompts: points from the model's own instance decoder (auto), or a grid",
    )
    _add_prompts(parser)
    _add_view(parser)
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


def _add_view(parser: argparse.ArgumentParser) -> None:
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
    if (args.point or args.negative) and len(args.box) > 1:
        parser.error("points refine one object: give them with at most one --box")
    if args.negative and not args.point and not args.box:
        parser.error("--negative needs a --point or a --box that says what is meant")
    from sam_plugins.cli.core import PromptChoice

    view = View(args.channels, args.limits, args.plane, args.level, args.axes)
    prompts = PromptChoice(args.point, args.negative, args.box)
    summary = Summary(failures=Failures(args.debug))
    jobs = _plan(args.images, Path(args.output), summary, overwrite=args.overwrite)
    if jobs:
        segment_jobs(jobs, args.model, args.device, args.mode, prompts, view, summary)
    if args.json:
        failed = summary.failures.entries
        say_json({"model": summary.model_id, "results": summary.results, "failed": failed})
    summary.failures.summarise(len(summary.results), "segmented")
    return 1 if summary.failures else 0


def segment_jobs(
    jobs: Sequence[Job],
    model: str,
    device: str | None,
    mode: str,
    prompts: PromptChoice,
    view: View,
    summary: Summary,
) -> None:
    """Segment images one after the other; a failure is reported and the rest go on."""
    from sam_plugins.model.io.atomic import make_folder

    make_folder(jobs[0].folder)
    core = load_core(model, device)
    summary.model_id = core.model_id
    for job in with_progress(jobs, "image"):
        with summary.failures.caught(job.image, partial(_smaller, job.image, view)):
            summary.results.append(_segment_one(job, core, mode, prompts, view))


def load_core(model: str, device: str | None) -> Core:
    """Load the model; the first moment at which torch is imported."""
    from sam_plugins.cli.torch_core import TorchCore

    return TorchCore.load(model, device)


def _plan(named: Sequence[str], folder: Path, summary: Summary, *, overwrite: bool) -> list[Job]:
    """Return the jobs that can be tried; report what cannot."""
    from sam_plugins.cli.inputs import find_images, is_own_result, plan_jobs

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
    jobs = []
    for job in plan_jobs(images, folder):
        try:
            if not overwrite:
                job.refuse_to_overwrite()
            jobs.append(job)
        except SamPluginsError as error:
            summary.failures.add(job.image, error)
    return jobs


def _segment_one(
    job: Job, core: Core, mode: str, prompts: PromptChoice, view: View
) -> dict[str, Any]:
    """Segment one image and write its results."""
    start = time.perf_counter()
    rgb = _read_rgb(job.image, view)
    if prompts:
        found = core.prompted(rgb, prompts)
    else:
        with step_progress(job.name) as progress:
            found = core.automatic(rgb, mode, progress)
    seconds = time.perf_counter() - start
    count = _write(job, rgb, found, _describe(job, core, prompts, mode, view))
    mention(f"{job.image}: {count} objects in {seconds:.1f} s -> {job.results['labels']}")
    return {
        "image": str(job.image),
        "objects": count,
        "seconds": round(seconds, 3),
        "files": {kind: str(path) for kind, path in job.results.items()},
    }


def _smaller(path: Path, view: View) -> str:
    """Say how a file could be segmented with less memory."""
    from sam_plugins.model.io.images import open_image

    coarser = view.level + 1
    try:
        with open_image(path, level=coarser, axes=view.axes):
            return f"take a coarser level of its pyramid with --level {coarser}"
    except SamPluginsError:
        return SMALLER_COPY


def _read_rgb(path: Path, view: View) -> npt.NDArray[np.uint8]:
    """Return what the model sees of a file."""
    from sam_plugins.model.inference.rgb import channel_indices, to_rgb
    from sam_plugins.model.io.images import open_image

    with open_image(path, level=view.level, axes=view.axes) as image:
        picture = image.plane(view.plane)
    limits = view.limits
    try:
        channels = (
            picture.default_channels
            if view.channels is None
            else channel_indices(view.channels, picture.channel_names)
        )
        return to_rgb(
            picture.pixels,
            channels,
            limits[0] if limits is not None and len(limits) == 1 else limits,
            channel_axis=picture.channel_axis,
        )
    except ValueError as error:
        raise UnusableImageError(f"{path}: {error}") from error


def _describe(job: Job, core: Core, prompts: PromptChoice, mode: str, view: View) -> dict[str, Any]:
    """Return where the objects come from, for the table."""
    described: dict[str, Any] = {
        "image": job.image.name,
        "model": core.model_id,
        "software": f"sam-plugins {__version__}",
        "mode": "prompts" if prompts else mode,
    }
    if prompts:
        described["prompts"] = {
            "points_xy": list(prompts.points_xy),
            "negatives_xy": list(prompts.negatives_xy),
            "boxes_xyxy": list(prompts.boxes_xyxy),
        }
    if view != View():
        described["view"] = {
            key: value for key, value in vars(view).items() if value != getattr(View(), key)
        }
    return described


def _write(job: Job, rgb: npt.NDArray[np.uint8], found: Found, described: dict[str, Any]) -> int:
    """Write the results, all of them or none; return how many objects there are."""
    from sam_plugins.cli.inputs import file_digest
    from sam_plugins.model.inference.overlay import draw_overlay
    from sam_plugins.model.io.atomic import files_together
    from sam_plugins.model.io.labels import (
        describe_objects,
        write_labels,
        write_objects,
        write_picture,
    )

    objects = describe_objects(found.labels, found.scores, found.points_xy)
    overlay = draw_overlay(rgb, found.labels)
    height, width = found.labels.shape
    # the table first: where the labels are, it says whose they are
    kinds = ("objects", "overlay", "labels")
    with files_together([job.results[kind] for kind in kinds]) as paths:
        staged = dict(zip(kinds, paths, strict=True))
        write_labels(staged["labels"], found.labels)
        write_picture(staged["overlay"], overlay)
        described = {**described, "labels_digest": file_digest(staged["labels"])}
        write_objects(staged["objects"], objects, size_hw=(height, width), source=described)
    return len(objects)
