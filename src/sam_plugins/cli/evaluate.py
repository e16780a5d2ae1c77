"""``sam-plugins evaluate``: how good a model is on pictures with known objects."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import mention, say, say_json, step_progress
from sam_plugins.cli.failures import Failures
from sam_plugins.errors import OutputError, UnsuitableModelError

if TYPE_CHECKING:
    from sam_plugins.model.evaluation.report import Report
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.io.labelled import LabelledFile

TASKS = ("prompts", "automatic", "clicks")
_ALL = ("prompts", "automatic")
_REPORT_KEYS = {"model", "data", "seconds", "prompts", "automatic", "object_scores"}


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
        "--task", choices=(*TASKS, "all"), default="all",
        help="what to measure; clicks, up to 20 for each object, are not in all (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--from-box", action="store_true", help="clicks correct the answer to the object's box"
    )
    parser.add_argument(
        "--mode", choices=("auto", "grid"), default="auto", help="of the automatic task"
    )
    parser.add_argument(
        "--max-objects", type=int, metavar="N", help="at most N prompted objects of a picture"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON and not tables")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace any FILE, not only a report of ours"
    )
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Measure; return the exit code."""
    if args.max_objects is not None and args.max_objects < 1:
        parser.error(f"--max-objects must be 1 or more, got {args.max_objects}")
    if args.from_box and args.task != "clicks":
        parser.error("--from-box belongs to --task clicks")
    if args.labels and (args.sets or args.split != "val"):
        parser.error("--sets and --split belong to folders with manifests, not to --labels")
    from sam_plugins.model.evaluation.report import to_json, to_markdown, write_report
    from sam_plugins.model.inference.loading import load_model
    from sam_plugins.model.io.atomic import require_writable
    from sam_plugins.model.io.labelled import list_folder_pair, list_manifest_files
    from sam_plugins.model.io.leftovers import remove_leftovers

    if args.output:
        require_writable(args.output)
        if not args.overwrite:
            _refuse_to_overwrite(Path(args.output))
        remove_leftovers(Path(args.output).parent)
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


def _refuse_to_overwrite(path: Path) -> None:
    """Refuse to replace a file that is no report of ours."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict) or _REPORT_KEYS - set(values):
        raise OutputError(
            f"{path} exists and is no report of ours; pass --overwrite to replace it, or another "
            "file with -o"
        )


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

    def on_failure(file: LabelledFile, error: Exception) -> None:
        with failures.caught(file.image_path):
            raise error

    tasks = _tasks(args)
    with step_progress("measuring") as progress:
        report = measure(
            model.model_id,
            files,
            model=LoadedModel(model) if "prompts" in tasks else None,
            clicked=LoadedModel(model) if "clicks" in tasks else None,
            from_box=args.from_box,
            segmenter=AutomaticSegmenter(model, args.mode) if "automatic" in tasks else None,
            max_objects=args.max_objects,
            on_progress=progress and (lambda _, done, total: progress(done, total)),
            on_failure=on_failure,
        )
    return replace(report, data=_described_data(args, failures))


def _tasks(args: argparse.Namespace) -> tuple[str, ...]:
    """Return what is to be measured."""
    return _ALL if args.task == "all" else (args.task,)


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
