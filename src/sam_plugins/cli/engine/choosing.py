"""``engine next``: which pictures people label next, with what the model proposes in them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import say, say_json, step_progress, table
from sam_plugins.cli.engine import min_score as score_option
from sam_plugins.cli.engine.pictures import Actions, described_image
from sam_plugins.cli.failures import Failures
from sam_plugins.errors import ProjectError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.choosing import Choice
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.inference.loading import Model


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
    score_option.add_option(parser, "that has paid so far, at least 0.5")
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


def run_next(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Name pictures; return the exit code."""
    if args.count < 1 or args.max_pool < 1:
        parser.error("--count and --max-pool must be 1 or more")
    score_option.check(args, parser)
    from sam_plugins.model.engine.project.choosing import choose_pictures
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.learning import sure_score
    from sam_plugins.model.engine.project.project import Project
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
            min_score = sure_score(project, model.model_id)
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
