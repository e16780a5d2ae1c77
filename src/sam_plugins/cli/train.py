"""``sam-plugins train``: fine-tune a model on your labelled pictures, and see whether it helped."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import mention, say, say_json, step_progress, table

if TYPE_CHECKING:
    from sam_plugins.model.engine.fine_tuning import FineTuned, TrainingProgress
    from sam_plugins.model.io.labelled import LabelledFile
    from sam_plugins.model.weights.store import ModelStore, StoredVersion


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="fine-tune a model on labelled pictures",
        description=__doc__,
        epilog="The best weights become the next version NAME@NUMBER in the model store; "
        "`sam-plugins models promote NAME` puts them into use.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="folder of pictures, with --labels; or a folder of data sets with manifests",
    )
    parser.add_argument("--labels", metavar="DIR", help="folder of label images of the same names")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="which data sets (all)")
    parser.add_argument("--name", required=True, metavar="NAME", help="of the model in the store")
    parser.add_argument(
        "--from", dest="parent", default="default", metavar="MODEL",
        help="name or file of the model to start from (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.25, metavar="SHARE",
        help="share of the pictures with --labels that is only measured on (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("full", "decoder"), default="full",
        help="whether the image encoder learns too (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=300, help="of the optimiser (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=6, help="how often it is measured (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of crops and prompts (%(default)s)")
    parser.add_argument("--note", default="", help="kept with the version, for people")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Fine-tune, and store what is better; return the exit code."""
    if args.labels and args.sets:
        parser.error("--sets belongs to folders with manifests, not to --labels")
    if not 0 < args.held_out < 1:
        parser.error(f"--held-out must lie between 0 and 1, got {args.held_out}")
    from sam_plugins.model.engine.fine_tuning import FineTuningOptions, fine_tune
    from sam_plugins.model.inference.loading import checked_device
    from sam_plugins.model.weights.store import ModelStore

    try:
        options = FineTuningOptions(
            method=args.method,
            steps=args.steps,
            rounds=args.rounds,
            learning_rate=args.learning_rate,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    store = ModelStore()
    store.require_writable(args.name)
    train_files, held_out = _split(args)
    mention(f"learning from {len(train_files)} pictures, measuring on {len(held_out)} others")
    with tempfile.TemporaryDirectory(prefix="sam-plugins-") as folder:
        path = Path(folder) / "model.safetensors"
        with step_progress("training") as progress:

            def on_progress(now: TrainingProgress) -> None:
                if progress is not None:
                    progress(now.step, now.steps)

            result = fine_tune(
                args.parent,
                train_files,
                held_out,
                path,
                options,
                name=args.name,
                device=checked_device(args.device),
                on_progress=on_progress,
            )
        version = None
        if result.is_better:
            version = _stored(store, result, args)
    if args.json:
        say_json(_plain(result, version))
    else:
        _tell(result, version)
    if result.stopped_by is not None:
        raise result.stopped_by
    return 0


def _stored(store: ModelStore, result: FineTuned, args: argparse.Namespace) -> StoredVersion:
    """Put the best weights into the store; where that fails, they stay where they are."""
    from sam_plugins.errors import StoreError
    from sam_plugins.model.inference.loading import load_model

    model_id = load_model(result.path).model_id
    try:
        return store.add(
            args.name,
            result.path,
            model_id=model_id,
            comparison=result.comparison,
            note=args.note,
        )
    except StoreError as error:
        kept = Path.cwd() / f"{args.name}-{model_id}.safetensors"
        shutil.copyfile(result.path, kept)
        raise StoreError(f"{error}; the trained model is kept as {kept}") from error


def _split(args: argparse.Namespace) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """Return the pictures to learn from and those to measure on."""
    from sam_plugins.model.io.labelled import list_folder_pair, list_manifest_files, split_off

    if not args.labels:
        return (
            list(list_manifest_files(args.data, args.sets, split="train")),
            list(list_manifest_files(args.data, args.sets, split="val")),
        )
    return split_off(list_folder_pair(args.data, args.labels), args.held_out)


def _tell(result: FineTuned, version: StoredVersion | None) -> None:
    """Print what was measured after each round, and what became of it."""
    rows = []
    for one in result.rounds:
        figures = {name: f"{value:.3f}" for name, value in one.figures.items()}
        mark = " best" if one is result.best else ""
        rows.append({"step": str(one.step), **figures, "mean": f"{one.value:.3f}{mark}"})
    say(table(rows))
    if result.stopped_by is not None:
        say("Stopped early; the best weights so far are kept.")
    if version is None:
        say("Nothing was better than the model it began with, so nothing is stored.")
        return
    say(f"{version}: {result.comparison}")
    if result.comparison.is_better:
        say(f"Put it into use:  sam-plugins models promote {version.name}")
    else:
        say("That is no proof: other pictures might say otherwise. Label more and train again.")


def _plain(result: FineTuned, version: StoredVersion | None) -> dict[str, Any]:
    """Return the result for JSON."""
    from dataclasses import asdict

    return {
        "version": None if version is None else str(version),
        "path": None if version is None else str(version.path),
        "best_step": result.best.step,
        "comparison": asdict(result.comparison),
        "rounds": [
            {"step": one.step, "value": one.value, "figures": dict(one.figures)}
            for one in result.rounds
        ],
    }
