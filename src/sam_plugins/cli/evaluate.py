"""``sam-plugins evaluate``: how good a model is on pictures with known objects."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam_plugins.cli.console import mention, say, say_json, step_progress

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
    parser.add_argument("--model", default="default", help="name or file of a model (%(default)s)")
    parser.add_argument("--device", default=None, help="cpu, cuda, mps (the best there is)")
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

    from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
    from sam_plugins.model.evaluation.measure import measure
    from sam_plugins.model.evaluation.report import to_json, to_markdown, write_report
    from sam_plugins.model.inference.loading import load_model
    from sam_plugins.model.io.labelled import list_folder_pair, list_manifest_files

    files = (
        list_folder_pair(args.data, args.labels)
        if args.labels
        else list_manifest_files(args.data, args.sets, split=args.split)
    )
    model = load_model(args.model, device=args.device)
    with step_progress("measuring") as progress:
        report = measure(
            model.model_id,
            files,
            model=LoadedModel(model) if args.task in {"prompts", "all"} else None,
            segmenter=(
                AutomaticSegmenter(model, args.mode) if args.task in {"automatic", "all"} else None
            ),
            max_objects=args.max_objects,
            data={"folder": Path(args.data).name, "split": args.split, "sets": args.sets},
            on_progress=None if progress is None else lambda _, done, total: progress(done, total),
        )
    if args.output:
        write_report(args.output, report)
        mention(f"wrote {args.output}")
    if args.json:
        say_json(json.loads(to_json(report, with_scores=False)))
    else:
        say(to_markdown(report))
    return 0
