"""``engine run-auto``: what the model does alone."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import scheduler
from sam_plugins.cli.console import counted, mention, say, say_json
from sam_plugins.cli.engine import min_score as score_option
from sam_plugins.cli.engine.pictures import Actions
from sam_plugins.cli.failures import Failures
from sam_plugins.errors import ClusterError

if TYPE_CHECKING:
    from sam_plugins.model.cluster.outcome import Kept, Runner
    from sam_plugins.model.engine.automatic_masks import AutomaticMode, AutomaticOptions
    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.automatic import AutomaticWork, FoundObjects

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
    score_option.add_option(parser, "0.5")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="at most N pictures this time; those that fail do not count",
    )
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
    score_option.check(args, parser)
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
        wanted = len(left) if args.limit is None else min(args.limit, len(left))
        waiting = iter(left)
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
        paths = [record.path for record in left]
        with scheduler.opened(args, wanted, files=paths) as runner:
            # Others take the places of those that fail: these come first the next time, too.
            while now := list(itertools.islice(waiting, wanted - len(results))):
                for record, done in _done(work, now, project.model_name(), args, runner):
                    with failures.caught(record.path):
                        count = done()
                        results.append(_result(record, count))
                        mention(f"{record.name}: {counted(count, 'object')}")
        values = document()
    if args.json:
        say_json(values)
    else:
        found = sum(one["objects"] for one in results)
        say(
            f"{counted(len(results), 'picture')} segmented, {counted(found, 'object')} proposed; "
            f"{values['done_before']} were done before, {values['left']} are left"
        )
    failures.summarise(len(results), "segmented")
    return 1 if failures else 0


def _result(record: ImageRecord, count: int) -> dict[str, Any]:
    """Return for JSON how many objects were stored for a picture."""
    return {"image_id": record.image_id, "path": str(record.path), "objects": count}


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
