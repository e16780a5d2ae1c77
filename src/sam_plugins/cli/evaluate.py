"""``sam-plugins evaluate``: how good a model is on pictures with known objects."""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments, scheduler
from sam_plugins.cli.console import complain, mention, say, say_json, step_progress
from sam_plugins.cli.evaluation_kept import kept_pictures
from sam_plugins.cli.evaluation_tasks import TASKS, TaskCommand
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.tiles import told_what_is_kept
from sam_plugins.errors import ClusterError

if TYPE_CHECKING:
    from sam_plugins.model.cluster.outcome import Kept, Outcome, Runner
    from sam_plugins.model.evaluation.gallery import DrawnPanels
    from sam_plugins.model.evaluation.kept_pictures import KeptPictures
    from sam_plugins.model.evaluation.run_task import Measure, Seen
    from sam_plugins.model.evaluation.task_report import TaskReport
    from sam_plugins.model.evaluation.tasks.task import Task
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.io.labelled import LabelledSource


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command with one command for each task to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on labelled pictures",
        description=arguments.in_words(__doc__),
    )
    tasks = parser.add_subparsers(title="tasks", metavar="TASK", required=True)
    for task in TASKS:
        own = tasks.add_parser(
            task.name, parents=[common], help=task.help, description=f"Measure: {task.help}."
        )
        _add_data_options(own)
        arguments.add_model_options(own)
        task.add_options(own)
        scheduler.add_option(own, "pictures")
        own.add_argument(
            "-o", "--output", metavar="DIR",
            help="write JSON, table, rows as CSV, plots and one HTML page into a folder; there "
            "the same command goes on where an interrupted run ended",
        )  # fmt: skip
        own.add_argument("--json", action="store_true", help="print JSON and not a table")
        own.add_argument(
            "--overwrite", action="store_true",
            help="replace any files in DIR, not only a report of the same task",
        )  # fmt: skip
        own.set_defaults(run=_runner(task, own))


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which pictures there are."""
    parser.add_argument(
        "--data", required=True, metavar="DIR",
        help="folder of data sets with manifests, or, with --labels or --coco, of pictures",
    )  # fmt: skip
    parser.add_argument(
        "--labels", nargs="+", metavar="DIR",
        help="folder of label images of the same names; more of them are further annotators, whom "
        "edges alone look at",
    )  # fmt: skip
    parser.add_argument("--coco", metavar="FILE", help="annotations in COCO's format")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="which data sets (all)")
    parser.add_argument("--split", default="val", help="which split (%(default)s)")
    parser.add_argument(
        "--incomplete", action="store_true",
        help="with --labels or --coco: not every visible object is labelled, so that what matches "
        "nothing is no mistake",
    )  # fmt: skip
    parser.add_argument(
        "--max-pictures", type=int, metavar="N", help="at most N pictures of a set, by lot (all)"
    )


def _runner(task: TaskCommand, parser: argparse.ArgumentParser) -> Any:  # noqa: ANN401
    """Return what runs one task."""
    return lambda args: run(task, args, parser)


def run(task: TaskCommand, args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Measure; return the exit code."""
    wrong = _wrong_data(args) or task.wrong_usage(args)
    if wrong is not None:
        parser.error(wrong)
    from sam_plugins.model.evaluation.report_folder import prepare_folder, write_folder
    from sam_plugins.model.evaluation.run_task import suitable
    from sam_plugins.model.evaluation.task_report import report_json, report_markdown
    from sam_plugins.model.inference.loading import load_model

    files = _files(args)
    folder = None
    if args.output:
        folder = prepare_folder(args.output, task.name, overwrite=args.overwrite)
    model = load_model(args.model, device=args.device)
    made = task.make(model, args, files)
    failures = Failures(args.debug)
    chosen = suitable(made, files)
    kept = None if folder is None else kept_pictures(folder, task, made, chosen, model, args)
    waiting = chosen if kept is None else [chosen[index] for index in kept.waiting]
    with (
        told_what_is_kept(folder) if folder is not None else nullcontext(),
        scheduler.opened(args, len(waiting), files=[one.image_path for one in waiting]) as runner,
    ):
        report = _measured(task, made, files, model, args, failures, runner, kept)
    measured = len(chosen) - len(failures)
    if measured:
        # first what needs no disk: a full one costs the files only
        if args.json:
            say_json(json.loads(report_json(report, with_rows=False)))
        else:
            say(report_markdown(report))
        if folder is not None:
            paths, missing = write_folder(folder, report)
            if missing is not None:
                complain(f"no plots: {missing}")
            mention(f"wrote {', '.join(path.name for path in paths)} to {folder}")
            if kept is not None and not failures:
                kept.remove()
    failures.summarise(measured, "measured")
    return 1 if failures else 0


def _wrong_data(args: argparse.Namespace) -> str | None:
    """Return what is wrong with the choice of pictures."""
    if args.labels and args.coco:
        return "--labels and --coco are two ways to say the same; give one of them"
    if (args.labels or args.coco) and (args.sets or args.split != "val"):
        return "--sets and --split belong to folders with manifests, not to --labels or --coco"
    if args.incomplete and not (args.labels or args.coco):
        return "--incomplete belongs to --labels or --coco; a manifest says it itself"
    if args.max_pictures is not None and args.max_pictures < 1:
        return f"--max-pictures must be 1 or more, got {args.max_pictures}"
    if args.output and (args.labels or args.coco):
        read = {Path(folder).resolve() for folder in (args.data, *(args.labels or ()))}
        if Path(args.output).resolve() in read:
            return f"-o {args.output} is a folder of pictures, which plots would join; name another"
    return None


def _files(args: argparse.Namespace) -> list[LabelledSource]:
    """Return the pictures to measure on."""
    from sam_plugins.model.io.coco import list_coco_files
    from sam_plugins.model.io.folder_pairs import list_folder_pair
    from sam_plugins.model.io.labelled import list_manifest_files

    complete = not args.incomplete
    files: Sequence[LabelledSource]
    if args.coco:
        files = list_coco_files(args.coco, args.data, complete=complete)
    elif args.labels:
        first, *others = args.labels
        files = list_folder_pair(args.data, first, others=others, complete=complete)
    else:
        files = list_manifest_files(args.data, args.sets, split=args.split)
    return _some(files, args.max_pictures)


def _some(files: Sequence[LabelledSource], most: int | None) -> list[LabelledSource]:
    """Return at most so many pictures of each set, the same ones whatever else there is."""
    if most is None:
        return list(files)
    ranks: dict[str, list[tuple[int, int]]] = {}
    for place, file in enumerate(files):
        rank = zlib.crc32(f"{file.set_name}/{file.id}".encode())
        ranks.setdefault(file.set_name, []).append((rank, place))
    kept = sorted(place for own in ranks.values() for _, place in sorted(own)[:most])
    return [files[place] for place in kept]


@dataclass(frozen=True)
class Work:
    """What is measured; goes to workers as it is.

    Parameters
    ----------
    task : str
        By name.
    options : Namespace
        Of the command line, with names that mean the same in another folder.
    """

    task: str
    options: argparse.Namespace

    @classmethod
    def of(cls, task: TaskCommand, args: argparse.Namespace) -> Work:
        """Take from the options what a task may read."""
        options = {
            key: scheduler.absolute(value)
            for key, value in vars(args).items()
            if isinstance(value, str | int | float | None)
        }
        return cls(task.name, argparse.Namespace(**options))

    def made(self, kept: Kept, file: LabelledSource) -> tuple[Task, str]:
        """Return the task with its model, made once in each process, and the model's id."""

        def make() -> tuple[Task, str]:
            from sam_plugins.model.inference.loading import load_model

            model = load_model(self.options.model, device=self.options.device)
            command = next(one for one in TASKS if one.name == self.task)
            return command.make(model, self.options, [file]), model.model_id

        return kept.get(("evaluate", self.task, repr(self.options)), make)


@dataclass(frozen=True, eq=False)
class _Sent:
    """What a worker saw in a picture: numbers, and small JPEGs."""

    model_id: str
    scores: Any
    value: float
    panels: DrawnPanels


def _see_elsewhere(work: Work, kept: Kept, file: LabelledSource) -> _Sent:
    """Measure one picture in a worker."""
    from sam_plugins.model.evaluation.run_task import see

    task, model_id = work.made(kept, file)
    seen = see(task, file)
    return _Sent(model_id, seen.scores, seen.value, seen.draw())


def _received(sent: _Sent, model_id: str) -> Seen:
    """Return what a worker saw, with the model that was meant."""
    from sam_plugins.model.evaluation.run_task import Seen

    if sent.model_id != model_id:
        raise ClusterError(
            f"a worker has other weights ({sent.model_id}) than this program ({model_id}): give "
            "all the same file"
        )
    return Seen(sent.scores, sent.value, lambda: sent.panels)


def _measured(
    command: TaskCommand,
    task: Task,
    files: Sequence[LabelledSource],
    model: Model,
    args: argparse.Namespace,
    failures: Failures,
    runner: Runner,
    kept: KeptPictures | None,
) -> TaskReport:
    """Measure picture by picture; one that fails is left out of every figure."""
    from sam_plugins.model.evaluation.run_task import measure_here, run_task

    def on_failure(file: LabelledSource, error: Exception) -> None:
        with failures.caught(file.image_path):
            raise error

    def elsewhere(
        chosen: Sequence[LabelledSource],
    ) -> Iterator[tuple[LabelledSource, Callable[[], Seen]]]:
        function = partial(_see_elsewhere, Work.of(command, args))
        named = [scheduler.with_absolute_paths(one) for one in chosen]
        # In their order, so that the same examples are shown as from one process.
        for outcome in scheduler.performed(runner, function, named, "picture", ordered=True):
            yield chosen[outcome.index], partial(_seen_in, outcome, model.model_id)

    measure: Measure = elsewhere if runner.is_distributed else measure_here(task)
    with step_progress("measuring") as progress:
        report = run_task(
            task,
            files,
            model_name=model.model_id,
            on_progress=None if runner.is_distributed else progress,
            on_failure=on_failure,
            measure=measure if kept is None else kept.measuring(measure),
        )
    seconds = report.seconds + (0.0 if kept is None else kept.earlier_seconds)
    return replace(report, data=_described_data(args, failures), seconds=seconds)


def _seen_in(outcome: Outcome[LabelledSource, _Sent], model_id: str) -> Seen:
    """Return what was seen in a picture, or raise what went wrong."""
    return _received(outcome.result(), model_id)


def _described_data(args: argparse.Namespace, failures: Failures) -> dict[str, Any]:
    """Return what the report says about the pictures."""
    described: dict[str, Any] = {"folder": Path(args.data).resolve().name}
    if args.coco:
        described["coco"] = Path(args.coco).name
    elif args.labels:
        described["labels"] = [Path(folder).resolve().name for folder in args.labels]
    else:
        described |= {"split": args.split, "sets": args.sets}
    if args.labels or args.coco:
        described["complete"] = not args.incomplete
    described["max_pictures"] = args.max_pictures
    if failures:
        described["failed"] = failures.entries
    return described
