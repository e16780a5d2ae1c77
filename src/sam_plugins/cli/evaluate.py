"""``sam-plugins evaluate``: how good a model is on pictures with known objects."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import mention, say, say_json, step_progress
from sam_plugins.cli.failures import Failures
from sam_plugins.errors import UnsuitableModelError

if TYPE_CHECKING:
    from sam_plugins.model.evaluation.automatic import PictureScore
    from sam_plugins.model.evaluation.report import Report
    from sam_plugins.model.evaluation.single_point import ObjectScore
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.io.labelled import LabelledFile

TASKS = ("prompts", "automatic")


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common],
        help="measure a model on labelled pictures",
        description=__doc__,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="folder of data sets with manifests, or, with --labels, a folder of pictures",
    )
    parser.add_argument("--labels", metavar="DIR", help="folder of label images of the same names")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="which data sets (all)")
    parser.add_argument("--split", default="val", help="which split (%(default)s)")
    arguments.add_model_options(parser)
    parser.add_argument(
        "--task", choices=(*TASKS, "all"), default="all", help="what to measure (%(default)s)"
    )
    parser.add_argument(
        "--mode", choices=("auto", "grid"), default="auto", help="of the automatic task"
    )
    parser.add_argument(
        "--max-objects", type=int, metavar="N", help="at most N prompted objects of a picture"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON and not tables")
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Measure; return the exit code."""
    if args.max_objects is not None and args.max_objects < 1:
        parser.error(f"--max-objects must be 1 or more, got {args.max_objects}")
    if args.labels and (args.sets or args.split != "val"):
        parser.error("--sets and --split belong to folders with manifests, not to --labels")
    import json

    from sam_plugins.model.evaluation.report import to_json, to_markdown, write_report
    from sam_plugins.model.inference.loading import load_model
    from sam_plugins.model.io.atomic import require_writable
    from sam_plugins.model.io.labelled import list_folder_pair, list_manifest_files

    if args.output:
        require_writable(args.output)
    files = (
        list_folder_pair(args.data, args.labels)
        if args.labels
        else list_manifest_files(args.data, args.sets, split=args.split)
    )
    model = load_model(args.model, device=args.device)
    _require_suitable(model, args)
    failures = Failures(args.debug)
    report = _measure_each(files, model, args, failures)
    if len(failures) < len(files):
        # first what needs no disk: a full one costs the file only
        if args.json:
            say_json(json.loads(to_json(report, with_scores=False)))
        else:
            say(to_markdown(report))
        if args.output:
            write_report(args.output, report)
            mention(f"wrote {args.output}")
    failures.summarise(len(files) - len(failures), "measured")
    return 1 if failures else 0


def _require_suitable(model: Model, args: argparse.Namespace) -> None:
    """Refuse a model that cannot do all of what is asked, before any of it is done."""
    if "automatic" in _tasks(args) and args.mode == "auto" and not model.has_instance_decoder:
        raise UnsuitableModelError(
            f"--mode auto needs a model with an instance decoder, which {model.model_id} has not; "
            "measure it with --mode grid, or only with --task prompts"
        )


def _measure_each(
    files: Sequence[LabelledFile], model: Model, args: argparse.Namespace, failures: Failures
) -> Report:
    """Measure picture by picture; one that fails is left out of every figure."""
    from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
    from sam_plugins.model.evaluation.measure import measure
    from sam_plugins.model.evaluation.report import Report, summarise_automatic, summarise_prompts

    tasks = _tasks(args)
    asked = LoadedModel(model) if "prompts" in tasks else None
    segmenter = AutomaticSegmenter(model, args.mode) if "automatic" in tasks else None
    objects: list[ObjectScore] = []
    pictures: list[PictureScore] = []
    seconds = dict.fromkeys(tasks, 0.0)
    with step_progress("measuring") as progress:
        for done, file in enumerate(files, start=1):
            with failures.caught(file.image_path):
                one = measure(
                    model.model_id, [file], model=asked, segmenter=segmenter,
                    max_objects=args.max_objects,
                )  # fmt: skip
                objects += one.object_scores
                pictures += one.picture_scores
                for task in tasks:
                    seconds[task] += one.seconds[task]
            if progress is not None:
                progress(done, len(files))
    return Report(
        model=model.model_id,
        data=_described_data(args, failures),
        prompts=summarise_prompts(objects) if asked is not None else None,
        automatic=summarise_automatic(pictures),
        object_scores=objects,
        picture_scores=pictures,
        seconds=seconds,
    )


def _tasks(args: argparse.Namespace) -> tuple[str, ...]:
    """Return what is to be measured."""
    return TASKS if args.task == "all" else (args.task,)


def _described_data(args: argparse.Namespace, failures: Failures) -> dict[str, Any]:
    """Return what the report says about the pictures."""
    described: dict[str, Any] = {"folder": Path(args.data).resolve().name}
    if args.labels:
        described["labels"] = Path(args.labels).resolve().name
    else:
        described |= {"split": args.split, "sets": args.sets}
    if failures:
        described["failed"] = failures.entries
    return described
