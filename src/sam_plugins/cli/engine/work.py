"""``engine next``, ``label`` and ``run-auto``: what people do, and what the model does alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments, scheduler
from sam_plugins.cli.console import complain, mention, say, say_json, step_progress, table
from sam_plugins.cli.engine.pictures import Actions, described_image
from sam_plugins.cli.failures import Failures
from sam_plugins.errors import ClusterError, ProjectError, UnreadableImageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.model.cluster.outcome import Kept, Runner
    from sam_plugins.model.engine.automatic_masks import AutomaticMode, AutomaticOptions
    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.automatic import AutomaticWork, FoundObjects
    from sam_plugins.model.engine.project.choosing import Choice
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.inference.loading import Model

_MODES = ("decoder", "grid")
_GRID = {
    "points_per_side": "--points",
    "crop_layers": "--crop-layers",
    "min_predicted_iou": "--min-iou",
    "min_stability": "--min-stability",
    "stability_offset": "--delta",
    "max_iou": "--max-overlap",
    "min_region": "--min-region",
}
"""Options of the grid, by what they are called in Python."""

_MANY_PARTS = 5
"""Parts of one value from which on a label image is taken for a mask of many objects."""


def add_next(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``next``."""
    parser = actions.add_parser(
        "next",
        parents=[shared],
        help="which pictures to label next, by expected gain",
        description="Three numbers say what the model would learn from a picture: how far its "
        "masks disagree, how wrong it expects to be, and how new the picture is. Each becomes a "
        "rank, 0 to 1, among the pictures that are left; the gain is their weighted mean.",
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--weights", default="1,1,1", metavar="D,E,N",
        help="of disagreement, expected error and novelty (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pool", type=int, default=200, metavar="N",
        help="look at N pictures at most, drawn at random (%(default)s)",
    )  # fmt: skip
    _add_proposals(parser, "that has paid so far, at least 0.5")
    parser.add_argument(
        "--propose", action="store_true",
        help="fill in what the model is sure of (the semi-automatic stage)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="DIR",
        help="write NAME_labels.tif to edit and bring back with `label --labels`, and an overlay",
    )  # fmt: skip
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.set_defaults(run=lambda args: run_next(args, parser))


def add_label(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``label``."""
    parser = actions.add_parser(
        "label",
        parents=[shared],
        help="bring in what a person labelled, without a window",
        description="A label image is compared with what the model proposed: objects that are "
        "there unchanged are accepted, changed ones corrected, missing ones rejected, the others "
        "are new. Prompts are answered by the model in use.",
    )
    parser.add_argument("image", metavar="IMAGE", help="by its path, file name or id")
    how = parser.add_argument_group("what was labelled, at least one of these")
    how.add_argument("--labels", metavar="FILE", help="label image made elsewhere (TIFF, PNG)")
    how.add_argument(
        "--plane", type=arguments.plane, metavar="N",
        help="plane of --labels where that is a stack: 5, or Z=5,T=0",
    )  # fmt: skip
    how.add_argument("--prompts", metavar="FILE", help="prompts as JSON, - for standard input")
    how.add_argument("--accept-all", action="store_true", help="every proposal as it is")
    state = parser.add_mutually_exclusive_group()
    state.add_argument(
        "--complete", dest="is_complete", action="store_true", default=None,
        help="every visible object is labelled now (as with --labels alone)",
    )  # fmt: skip
    state.add_argument(
        "--incomplete", dest="is_complete", action="store_false", default=None,
        help="others are not labelled: what has no label is not background",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true", help="objects that are missing in --labels stay"
    )
    parser.add_argument("--author", help="who labelled (the name that the system knows)")
    parser.add_argument("--seconds", type=float, help="that it took, for the whole picture")
    parser.add_argument("--class", dest="class_name", default="object", help="(%(default)s)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.set_defaults(run=lambda args: run_label(args, parser))


def add_run_auto(
    actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    """Add ``run-auto``."""
    parser = actions.add_parser(
        "run-auto",
        parents=[shared],
        help="segment all pictures that people have not finished",
        description="Picture by picture; killed at any time, it goes on where it was. What it "
        "finds is proposed, and touches nothing that people labelled.",
    )
    parser.add_argument(
        "--mode", choices=_MODES,
        help="points from the model's instance decoder, or of a grid on the picture and its crops "
        "(decoder, where the model has one)",
    )  # fmt: skip
    _add_proposals(parser, "0.5")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures this time")
    grid = parser.add_argument_group("of the grid")
    grid.add_argument("--points", type=int, default=32, metavar="N", help="a side (%(default)s)")
    grid.add_argument(
        "--crop-layers", type=int, default=2, metavar="N",
        help="of 4, 16, ... overlapping crops (%(default)s)",
    )  # fmt: skip
    grid.add_argument("--min-iou", type=float, default=0.88, help="predicted (%(default)s)")
    grid.add_argument("--min-stability", type=float, default=0.95, help="(%(default)s)")
    grid.add_argument("--delta", type=float, default=1.0, help="of the stability (%(default)s)")
    grid.add_argument(
        "--max-overlap", type=float, default=0.7, help="IoU of duplicates (%(default)s)"
    )
    grid.add_argument(
        "--min-region", type=int, default=100, metavar="PIXELS",
        help="smaller holes are filled, smaller islands dropped (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    scheduler.add_option(parser, "pictures")
    parser.set_defaults(run=lambda args: run_auto(args, parser))


def _add_proposals(parser: argparse.ArgumentParser, usual: str) -> None:
    """Add the option that says what is worth a look."""
    parser.add_argument(
        "--min-score", type=float, metavar="SCORE",
        help=f"propose objects from this score on, 0 to 1 ({usual})",
    )  # fmt: skip


def run_next(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Name pictures; return the exit code."""
    if args.count < 1 or args.max_pool < 1:
        parser.error("--count and --max-pool must be 1 or more")
    _check_score(args, parser)
    from sam_plugins.model.engine.project.choosing import choose_pictures
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.learning import judged_proposals
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.proposals import calibrated_min_score
    from sam_plugins.model.engine.selection import GainWeights
    from sam_plugins.model.inference.loading import load_model
    from sam_plugins.model.io.atomic import make_folder, require_writable_folder

    try:
        disagreement, expected_error, novelty = (float(one) for one in args.weights.split(","))
        weights = GainWeights(disagreement, expected_error, novelty)
    except ValueError as error:
        parser.error(f"--weights must be three numbers such as 1,1,0.5: {error}")
    if args.output:
        require_writable_folder(make_folder(args.output))
    failures = Failures(args.debug)
    with Project.open(args.project) as project, project.job("next"):
        model = load_model(project.model_name(), device=args.device)
        with step_progress("looking at pictures") as progress:
            choices = choose_pictures(
                project,
                model,
                usual_cache(),
                args.count,
                weights=weights,
                max_pool=args.max_pool,
                on_progress=progress,
                on_failure=lambda record, error: failures.add(record.path, error),
            )
        min_score = args.min_score
        if min_score is None:
            min_score = calibrated_min_score(judged_proposals(project))
        handed: list[tuple[Choice, dict[str, Any]]] = []
        for one in choices:
            with failures.caught(one.record.path):
                handed.append((one, _handed_out(project, model, one, min_score, args)))
    if args.json:
        say_json(
            {
                "model": model.model_id,
                "min_score": min_score,
                "next": [values for _, values in handed],
                "failed": failures.entries,
            }
        )
    elif handed:
        say(table([_choice_row(one, values) for one, values in handed]))
    return 1 if failures else 0


def _handed_out(
    project: Project, model: Model, choice: Choice, min_score: float, args: argparse.Namespace
) -> dict[str, Any]:
    """Propose objects in a picture and write it out, where that is wanted; describe it."""
    from dataclasses import asdict

    from sam_plugins.model.engine.project.automatic import put_proposals
    from sam_plugins.model.engine.project.encoding import usual_cache

    record = choice.record
    if args.propose:
        put_proposals(project, model, usual_cache(), record, min_score=min_score)
    objects = project.labels.objects(record.image_id)
    values = described_image(record, objects)
    values["gain"] = None if choice.gain is None else asdict(choice.gain)
    values["files"] = _write_to_edit(project, record, Path(args.output)) if args.output else {}
    return values


def _write_to_edit(project: Project, record: ImageRecord, folder: Path) -> dict[str, str]:
    """Write the label image of what is labelled and proposed, and how it looks."""
    from sam_plugins.model.engine.label_store import ReviewState
    from sam_plugins.model.engine.label_store.exporting import names_of
    from sam_plugins.model.engine.label_store.label_images import paint_objects
    from sam_plugins.model.inference.overlay import draw_overlay
    from sam_plugins.model.inference.rgb import to_rgb
    from sam_plugins.model.io.labels import write_labels, write_picture

    objects = [
        one for one in project.labels.objects(record.image_id) if one.review != ReviewState.REJECTED
    ]
    labels = paint_objects(record.size_hw, objects).labels
    name = names_of(project.labels.images())[record.image_id]
    paths = {
        "labels": folder / f"{name}_labels.tif",
        "overlay": folder / f"{name}_overlay.png",
    }
    if not paths["labels"].exists():
        write_labels(paths["labels"], labels)
    elif not _holds(paths["labels"], labels):
        raise ProjectError(
            f"{paths['labels']} holds something else: somebody has edited it, or what is "
            "proposed has changed; bring it in or remove it, or choose another folder with -o"
        )
    rgb = to_rgb(project.labels.read_image(record.image_id))
    write_picture(paths["overlay"], draw_overlay(rgb, labels))
    return {kind: str(path) for kind, path in paths.items()}


def _holds(path: Path, labels: npt.NDArray[np.integer[Any]]) -> bool:
    """Return whether a file holds these labels, as where they were handed out before."""
    from sam_plugins.errors import SamPluginsError
    from sam_plugins.model.io.label_files import read_labels

    try:
        there = read_labels(path)
    except SamPluginsError:
        return False
    return there.shape == labels.shape and bool((there == labels).all())


def _choice_row(choice: Choice, values: dict[str, Any]) -> dict[str, str]:
    """Return a picture as a row."""
    gain = choice.gain
    numbers = (
        {}
        if gain is None
        else {
            "disagreement": gain.disagreement,
            "expected error": gain.expected_error,
            "novelty": gain.novelty,
        }
    )
    return {
        "picture": choice.record.name,
        "id": choice.record.image_id,
        "for": "measuring" if gain is None else "learning",
        "gain": "" if gain is None else f"{gain.total:.2f}",
        **{
            name: f"{numbers[name]:.3f}" if name in numbers else ""
            for name in ("disagreement", "expected error", "novelty")
        },
        "proposed": str(sum(one["review"] == "proposed" for one in values["objects"])),
        "to edit": values["files"].get("labels", ""),
    }


def run_label(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Bring in labels; return the exit code."""
    if not (args.labels or args.prompts or args.accept_all) and args.is_complete is None:
        parser.error("give --labels, --prompts, --accept-all, --complete or --incomplete")
    if args.labels and (args.prompts or args.accept_all):
        parser.error("--labels says it all: leave out --prompts and --accept-all")
    if not args.labels and (args.keep or args.plane is not None):
        parser.error(f"{'--keep' if args.keep else '--plane'} belongs to --labels")
    from dataclasses import asdict

    from sam_plugins.model.engine.project.labelling import Labelled, Person, bring_label_image
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.project.state import user_name
    from sam_plugins.model.io.label_files import parts_of_a_mask, read_labels

    try:
        person = Person(args.author or user_name(), args.seconds, args.class_name)
    except ValueError as error:
        parser.error(str(error))
    # No job: people go on labelling while the model learns.
    with Project.open(args.project) as project:
        record = project.find_image(args.image)
        done = Labelled()
        if args.labels:
            labels = read_labels(args.labels, plane=args.plane)
            if (parts := parts_of_a_mask(labels)) >= _MANY_PARTS:
                complain(
                    f"{args.labels} holds one object, in {parts} parts; where these are objects, "
                    "give each a number of its own (skimage.measure.label) and bring it again"
                )
            done = bring_label_image(project, record, labels, person, keeps_others=args.keep)
        elif args.prompts or args.accept_all:
            done = _prompted(project, record, args, person)
        is_complete = args.is_complete
        if is_complete is None and args.labels and not args.keep:
            is_complete = True
        if is_complete is not None:
            project.labels.set_complete(record.image_id, is_complete)
        record = project.labels.image(record.image_id)
        objects = project.labels.objects(record.image_id)
    if args.json:
        say_json({**asdict(done), "author": person.author, **described_image(record, objects)})
    else:
        say(
            f"{record.name}: {done.accepted} accepted, {done.corrected} corrected, "
            f"{done.added} added, {done.rejected} rejected"
        )
    return 0


def _prompted(project: Project, record: ImageRecord, args: argparse.Namespace, person: Any) -> Any:  # noqa: ANN401
    """Bring in prompts, and accept what is proposed where that is wanted."""
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.labelling import Labelled, accepting_all, bring_prompts
    from sam_plugins.model.inference.loading import load_model

    document = _read_prompts(args.prompts) if args.prompts else {}
    if args.accept_all:
        document = accepting_all(project, record, document)
        if not any(document.values()):
            return Labelled()  # nothing is proposed, and nothing else was said
    model = load_model(project.model_name(), device=args.device)
    return bring_prompts(project, record, document, person, model, usual_cache())


def _read_prompts(named: str) -> Any:  # noqa: ANN401
    """Read prompts from a file or standard input."""
    import sys

    try:
        text = sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"cannot read the prompts {named}: {reason}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProjectError(
            f"the prompts {named} are no JSON ({error}); they look like "
            '{"objects": [{"points_xy": [[120, 85]]}]}'
        ) from error


def _refuse_grid_options(
    mode: str, args: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    """Refuse options of the grid where the instance decoder would not look at them."""
    for option in _GRID.values():
        name = option.removeprefix("--").replace("-", "_")
        if mode != "grid" and getattr(args, name) != parser.get_default(name):
            parser.error(f"{option} is for --mode grid; the instance decoder places its own points")


def run_auto(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Segment pictures; return the exit code."""
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit must be 1 or more, got {args.limit}")
    _check_score(args, parser)
    from sam_plugins.model.engine.automatic_masks import AutomaticOptions, require_mode
    from sam_plugins.model.engine.project.automatic import AutomaticWork
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.proposals import MIN_SCORE
    from sam_plugins.model.inference.loading import load_model

    failures = Failures(args.debug)
    with Project.open(args.project) as project, project.job("run-auto"):
        model = load_model(project.model_name(), device=args.device)
        mode: AutomaticMode = args.mode or ("decoder" if model.has_instance_decoder else "grid")
        _refuse_grid_options(mode, args, parser)
        try:
            options = AutomaticOptions(
                mode=mode,
                min_score=MIN_SCORE if args.min_score is None else args.min_score,
                points_per_side=args.points,
                crop_layers=args.crop_layers,
                min_predicted_iou=args.min_iou,
                min_stability=args.min_stability,
                stability_offset=args.delta,
                max_iou=args.max_overlap,
                min_region=args.min_region,
            )
        except (TypeError, ValueError) as error:
            name, _, rest = str(error).partition(" ")
            parser.error(f"{_GRID.get(name, name)} {rest}")
        require_mode(model, options)
        work = AutomaticWork(project, model, options, usual_cache())
        left = work.pending()
        now = left[: args.limit]
        results: list[dict[str, Any]] = []

        def document() -> dict[str, Any]:
            return {
                "model": model.model_id,
                "done_before": sum(not one.is_complete for one in project.labels.images())
                - len(left),
                "results": results,
                "left": len(left) - len(results) - len(failures),
                "failed": failures.entries,
            }

        args.so_far = document
        paths = [record.path for record in now]
        with scheduler.opened(args, len(now), files=paths) as runner:
            for record, done in _done(work, now, project.model_name(), args, runner):
                with failures.caught(record.path):
                    count = done()
                    results.append(
                        {"image_id": record.image_id, "path": str(record.path), "objects": count}
                    )
                    mention(f"{record.name}: {count} objects")
        values = document()
    if args.json:
        say_json(values)
    else:
        found = sum(one["objects"] for one in results)
        say(
            f"{len(results)} pictures segmented, {found} objects proposed; "
            f"{values['done_before']} were done before, {values['left']} are left"
        )
    failures.summarise(len(results), "segmented")
    return 1 if failures else 0


def _done(
    work: AutomaticWork,
    records: Sequence[ImageRecord],
    model: str,
    args: argparse.Namespace,
    runner: Runner,
) -> Iterator[tuple[ImageRecord, Callable[[], int]]]:
    """Yield pictures with what says how many objects are stored, or raises what went wrong.

    Workers find the objects and read nothing but pictures; only this process writes the project,
    whose database is no thing to share between machines.
    """
    if not runner.is_distributed:
        for outcome in scheduler.performed(runner, lambda _, one: work.do(one), records, "picture"):
            yield outcome.item, outcome.result
        return
    function = partial(_find_elsewhere, scheduler.absolute(model), args.device, work.options)
    for found in scheduler.performed(runner, function, records, "picture"):
        yield found.item, partial(_store, work, found.item, found.result)


def _find_elsewhere(
    model: str, device: str | None, options: AutomaticOptions, kept: Kept, record: ImageRecord
) -> FoundObjects:
    """Find the objects of a picture in a worker."""
    from sam_plugins.model.engine.project.automatic import find_objects
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.inference.loading import load_model

    loaded = kept.get(("model", model, device), lambda: load_model(model, device=device))
    return find_objects(loaded, record, options, kept.get("cache", usual_cache))


def _store(work: AutomaticWork, record: ImageRecord, result: Callable[[], FoundObjects]) -> int:
    """Store what a worker found with the weights that were meant; return how many."""
    found = result()
    if found.model_id != work.model.model_id:
        raise ClusterError(
            f"a worker has other weights ({found.model_id}) than the project "
            f"({work.model.model_id}): let SAM_PLUGINS_STORE be the same folder everywhere"
        )
    return work.store(record, found)


def _check_score(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what is no score."""
    if args.min_score is not None and not 0 <= args.min_score <= 1:
        parser.error(f"--min-score must lie between 0 and 1, got {args.min_score}")
