"""``engine train`` and ``promote``: the model learns from the labels, and comes into use."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import complain, say, say_json, table
from sam_plugins.cli.engine.pictures import Actions
from sam_plugins.cli.training_progress import training_progress
from sam_plugins.cli.wording import with_options

if TYPE_CHECKING:
    from sam_plugins.model.engine.project.learning import Learned
    from sam_plugins.model.engine.project.project import Project

_OPTIONS = {
    "steps": "--steps",
    "rounds": "--rounds",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
}
"""Options, by what they are called in Python."""
_GO_ON = "the same command goes on with this training"


def add_train(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``train``."""
    parser = actions.add_parser(
        "train",
        parents=[shared],
        help="let the model learn from all labels so far",
        description="It starts from the model in use, is measured on the labelled pictures that "
        "are held out, and becomes a version of the model store where it is better. Where it was "
        "stopped or killed, the same command goes on.",
    )
    parser.add_argument(
        "--method", choices=("full", "lora", "decoder"), default="full",
        help="what learns: all, adapters of a ViT, or the decoders alone (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=300, help="of the optimiser (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, help="how often it is measured (6, or --steps where that is less)"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="(%(default)s)")
    parser.add_argument(
        "--precision", choices=("auto", "bfloat16", "float32"), default="auto",
        help="of the forward pass (auto: bfloat16 where the device has it)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of crops and prompts (%(default)s)")
    parser.add_argument("--note", default="", help="kept with the version, for people")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.set_defaults(run=lambda args: run_train(args, parser))


def add_promote(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``promote``."""
    parser = actions.add_parser(
        "promote",
        parents=[shared],
        help="let people work with the newest version, if it is shown to be better",
    )
    parser.add_argument(
        "--version", type=arguments.version_number, metavar="NUMBER",
        help="another one (the newest)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="even if it is not")
    parser.set_defaults(run=run_promote)


def run_train(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Train; return the exit code."""
    from sam_plugins.model.engine.fine_tuning import FineTuningOptions
    from sam_plugins.model.engine.project.enough import too_few_labelled
    from sam_plugins.model.engine.project.learning import learn
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.inference.loading import checked_device

    try:
        options = FineTuningOptions(
            method=args.method,
            steps=args.steps,
            rounds=args.rounds,
            learning_rate=args.learning_rate,
            precision=args.precision,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(with_options(str(error), _OPTIONS))
    with Project.open(args.project) as project, project.job("train"):
        device = checked_device(args.device)
        too_few = too_few_labelled(project)
        if too_few is not None:
            complain(too_few)
        with training_progress() as on_progress, _told_how_to_go_on(project):
            learned = learn(
                project,
                options,
                note=args.note,
                device=device,
                on_progress=on_progress,
                on_resume=lambda step: complain(
                    "going on with the training that was ended early, the last measured step "
                    f"of which is {step}; with other labels or options it begins anew"
                ),
            )
    if args.json:
        say_json(_plain(learned))
    else:
        _tell(learned, args.project)
    if learned.result.stopped_by is not None:
        complain(_GO_ON)
        raise learned.result.stopped_by
    return 0


@contextlib.contextmanager
def _told_how_to_go_on(project: Project) -> Iterator[None]:
    """Say how a training goes on that somebody stops before anything was better."""
    from sam_plugins.model.engine.project.training_place import unfinished_training

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if unfinished_training(project) is not None:
            complain(_GO_ON)
        raise


def _tell(learned: Learned, project: str) -> None:
    """Print what was measured, and what became of it."""
    result, version = learned.result, learned.version
    say(
        f"round {learned.round_number}: learned from {learned.objects} objects in "
        f"{learned.pictures} pictures, measured on {learned.held_out} others"
    )
    rows = []
    for one in result.rounds:
        figures = {name: f"{value:.3f}" for name, value in one.figures.items()}
        mark = " best" if one is result.best else ""
        step = str(one.step) if one.share == 1 else f"{one.step}, {one.share:.0%} of the way"
        rows.append({"step": step, **figures, "mean": f"{one.value:.3f}{mark}"})
    say(table(rows))
    if version is None:
        say("Nothing was better than the model in use, so nothing is stored.")
        return
    say(f"{version}: {result.comparison}")
    if result.comparison.is_better:
        say(f"Put it into use:  sam-plugins engine promote {project}")
    else:
        say("That is no proof: other pictures might say otherwise. Label more and train again.")


def _plain(learned: Learned) -> dict[str, Any]:
    """Return it for JSON."""
    result, version = learned.result, learned.version
    return {
        "round": learned.round_number,
        "version": None if version is None else str(version),
        "path": None if version is None else str(version.path),
        "pictures": learned.pictures,
        "held_out": learned.held_out,
        "objects": learned.objects,
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


def run_promote(args: argparse.Namespace) -> int:
    """Put a version into use; return the exit code."""
    from sam_plugins.errors import StoreError
    from sam_plugins.model.engine.project.project import Project

    with Project.open(args.project) as project, project.job("promote"):
        name = project.settings.name
        if not project.models.versions(name):
            why = (
                "no training has come to anything better than the model in use; label more, and "
                "train again"
                if project.state.rounds()
                else "nothing was trained yet; label pictures, and train"
            )
            raise StoreError(
                f"there is no version of {name} to promote: {why} with `sam-plugins engine train "
                f"{args.project}`"
            )
        reference = name if args.version is None else f"{name}@{args.version}"
        version = project.models.promote(reference, force=args.force)
    if args.json:
        values = {**asdict(version), "version": str(version), "path": str(version.path)}
        say_json(values)
    else:
        say(f"{version} is in use")
    return 0
