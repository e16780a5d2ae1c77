"""``sam-plugins train``: fine-tune a model on your labelled pictures, and see whether it helped."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import complain, mention, say, say_json, table
from sam_plugins.cli.training_progress import training_progress
from sam_plugins.cli.wording import with_options
from sam_plugins.errors import FolderBusyError

if TYPE_CHECKING:
    from sam_plugins.model.engine.fine_tuning import FineTuned
    from sam_plugins.model.engine.run_config import RunConfig
    from sam_plugins.model.engine.run_folder import RunFolder
    from sam_plugins.model.training.processes import Processes
    from sam_plugins.model.weights.store import ModelStore, StoredVersion

_CONFIG_SUFFIXES = (".yaml", ".yml")
_RUN_OPTIONS = (
    "labels", "ignore", "sets", "sparse", "held_out", "name", "parent", "note", "device", "devices",
    "tensorboard",
)  # fmt: skip
_TRAINING_OPTIONS = (
    "method", "recipe", "steps", "rounds", "learning_rate", "precision", "seed",
)  # fmt: skip


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="fine-tune a model on labelled pictures",
        description=arguments.in_words(__doc__),
        epilog="The best weights become the next version NAME@NUMBER in the model store; "
        "`sam-plugins models promote NAME` puts them into use.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        help="folder of pictures, with --labels; or a folder of data sets with manifests; or the "
        "config of a run (.yaml); or the folder of a run, to repeat it or to go on (--resume)",
    )
    parser.add_argument("--labels", metavar="DIR", help="folder of label images of the same names")
    parser.add_argument(
        "--ignore", metavar="DIR",
        help="folder of pictures of the same names that are not 0 where the truth is not known",
    )  # fmt: skip
    parser.add_argument(
        "--sparse", action="store_true", default=None,
        help="only some objects are labelled: what has no label is not taken for background",
    )  # fmt: skip
    parser.add_argument("--sets", nargs="+", metavar="SET", help="which data sets (all)")
    parser.add_argument("--name", metavar="NAME", help="of the model in the store")
    parser.add_argument(
        "--from", dest="parent", metavar="MODEL",
        help="name or file of the model to start from (default)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, metavar="SHARE",
        help="share of the pictures with --labels that is only measured on (0.25)",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("full", "lora", "decoder"),
        help="whether the image encoder learns too, gets adapters, or stays as it is (full)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", choices=("auto", "paper", "shipped"),
        help="losses, prompts and schedule (auto: the paper's for its own encoders)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, help="of the optimiser (300)")
    parser.add_argument(
        "--rounds", type=int, help="how often it is measured (6, or --steps where that is less)"
    )
    parser.add_argument("--learning-rate", type=float, help="(0.0001)")
    parser.add_argument(
        "--precision", choices=("auto", "bfloat16", "float32"),
        help="of the forward pass (auto: bfloat16 where the device has it)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="of crops and prompts (0)")
    parser.add_argument("--note", help="kept with the version, for people")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--devices", type=int, metavar="N", help="processes, each with its own device (1)"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", default=None, help="write a log for TensorBoard too"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="folder of the run (a new one beside the model store)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder DATA"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Fine-tune, and store what is better; return the exit code."""
    source = Path(args.data)
    is_config = source.suffix in _CONFIG_SUFFIXES
    is_run = args.resume or (source / "config.yaml").is_file()
    given = _given(args)
    if is_run and given:
        parser.error(
            f"{_named(given)} cannot be given with the folder of a run, which has its own; begin a "
            f"new one from {source / 'config.yaml'}"
        )
    if args.resume and args.output:
        parser.error("--output cannot be given with --resume: the run goes on in its own folder")
    from sam_plugins.model.engine.run_folder import RunFolder
    from sam_plugins.model.engine.runs import begin_run, launch, repeat_run, train_run
    from sam_plugins.model.weights.store import ModelStore

    old = RunFolder.open(source) if is_run else None
    config = old.config if old is not None else _config(args, parser, given, is_config=is_config)
    store = ModelStore()
    store.require_writable(config.name)
    processes = launch(config)
    folder = old if args.resume else None
    was_there = bool(args.output) and Path(args.output).is_dir()
    if folder is None and processes.rank == 0:
        output = Path(args.output) if args.output else None
        folder = repeat_run(old, output) if old else begin_run(config, output)
    folder = processes.tell(folder)
    assert folder is not None
    mention(f"the run is kept in {folder.path}")
    with (
        _tidied(folder, args, processes, keeps_folder=was_there),
        training_progress() as on_progress,
    ):
        result = train_run(folder, on_progress=on_progress, processes=processes)
    if processes.rank > 0:
        return 0
    version = _stored(store, result, config) if result.is_better else None
    if args.json:
        say_json({**_plain(result, version), "run": str(folder.path)})
    else:
        _tell(result, version, folder)
    if result.stopped_by is not None:
        raise result.stopped_by
    return 0


@contextlib.contextmanager
def _tidied(
    folder: RunFolder, args: argparse.Namespace, processes: Processes, *, keeps_folder: bool
) -> Iterator[None]:
    """Remove a new run that failed before it measured anything; say how one goes on that ended."""
    try:
        yield
    except FolderBusyError:
        raise  # it is another's run
    except Exception:
        # It would be in the way of the next try.
        if not args.resume and processes.rank == 0:
            folder.discard_unbegun(keeps_folder=keeps_folder)
        raise
    except BaseException:
        if processes.rank == 0:
            complain(f"go on with `sam-plugins train {folder.path} --resume`")
        raise


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a run that were typed."""
    values = {name: getattr(args, name) for name in (*_RUN_OPTIONS, *_TRAINING_OPTIONS)}
    return {name: value for name, value in values.items() if value is not None}


def _named(options: dict[str, Any]) -> str:
    """Return options as they are typed."""
    return ", ".join(
        "--from" if one == "parent" else f"--{one.replace('_', '-')}" for one in options
    )


def _config(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    given: dict[str, Any],
    *,
    is_config: bool,
) -> RunConfig:
    """Return what was asked for: a file, options, or options that replace values of a file."""
    from dataclasses import replace

    from sam_plugins.model.engine.fine_tuning import FineTuningOptions
    from sam_plugins.model.engine.run_config import RunConfig

    if not is_config and not args.name:
        parser.error("the following arguments are required: --name")
    base = RunConfig.read(Path(args.data)) if is_config else None
    run_values = {name: given[name] for name in _RUN_OPTIONS if name in given}
    if "sets" in run_values:
        run_values["sets"] = tuple(run_values["sets"])
    training_values = {name: given[name] for name in _TRAINING_OPTIONS if name in given}
    try:
        training = replace(base.training if base else FineTuningOptions(), **training_values)
        if base is not None:
            return replace(base, training=training, **run_values)
        return RunConfig(data=args.data, training=training, **run_values)
    except ValueError as error:
        parser.error(_as_options(str(error)))


def _as_options(message: str) -> str:
    """Return a message about values in the words of the command line."""
    names = ("held_out", "learning_rate", "steps", "rounds", "seed")
    message = with_options(message, {name: f"--{name.replace('_', '-')}" for name in names})
    for name in ("devices", "sets", "ignore"):
        if message.startswith(f"{name} "):
            message = f"--{message}"
    return message.replace("not to labels", "not to --labels")


def _stored(store: ModelStore, result: FineTuned, config: RunConfig) -> StoredVersion:
    """Put the best weights into the store; where that fails, they stay where they are."""
    from sam_plugins.errors import StoreError
    from sam_plugins.model.inference.loading import load_model

    model_id = load_model(result.path).model_id
    try:
        return store.add(
            config.name,
            result.path,
            model_id=model_id,
            comparison=result.comparison,
            note=config.note,
        )
    except StoreError as error:
        raise StoreError(f"{error}; the trained model is kept as {result.path}") from error


def _tell(result: FineTuned, version: StoredVersion | None, folder: RunFolder) -> None:
    """Print what was measured after each round, and what became of it."""
    rows = []
    for one in result.rounds:
        figures = {name: f"{value:.3f}" for name, value in one.figures.items()}
        mark = " best" if one is result.best else ""
        step = str(one.step) if one.share == 1 else f"{one.step}, {one.share:.0%} of the way"
        rows.append({"step": step, **figures, "mean": f"{one.value:.3f}{mark}"})
    say(table(rows))
    if result.stopped_by is not None:
        say("Stopped early; the best weights so far are kept.")
        say(f"Go on:  sam-plugins train {folder.path} --resume")
    else:
        say(f"Log, curves and sample pictures:  {folder.path}")
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
            {
                "step": one.step,
                "share": one.share,
                "value": one.value,
                "figures": dict(one.figures),
            }
            for one in result.rounds
        ],
    }
