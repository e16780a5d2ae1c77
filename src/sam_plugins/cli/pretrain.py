"""``sam-plugins pretrain``: teach an image encoder to see, from pictures that nobody labelled."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import StageBars, mention, say, say_json, table
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.wording import with_options
from sam_plugins.errors import SamPluginsError

if TYPE_CHECKING:
    from sam_plugins.model.engine.pretraining import Pretrained
    from sam_plugins.model.training.pretraining_config import PretrainingConfig

ENCODERS = ("vit-tiny", "vit-small", "vit-b", "vit-l", "vit-h")
_SHOWN_CHECKS = 10
_VALUES = {
    "sam_image_size": "sam_size",
    "steps": "steps",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "warmup_steps": "warmup_steps",
    "held_out_share": "held_out",
    "precision": "precision",
    "seed": "seed",
}
"""What options give, by the names that the config has for it."""


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "pretrain",
        parents=[common],
        help="pre-train an image encoder on unlabelled pictures",
        description="Pre-train a plain ViT as a masked autoencoder on unlabelled pictures. Run the "
        "same command again to go on with a run that was stopped or killed.",
        epilog="`sam-plugins train --from DIR/sam.safetensors` goes on with labelled pictures.",
    )
    add_pictures(parser)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--encoder", choices=ENCODERS, help="which plain ViT (vit-small); vit-b to vit-h are SAM's"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="numbers of the run, such as config.json of another one"
    )
    parser.add_argument(
        "--input-size", type=int, metavar="PIXELS",
        help="side of the crops that are learned from (224); smaller ones learn sooner, and less",
    )  # fmt: skip
    parser.add_argument(
        "--sam-size", type=int, metavar="PIXELS",
        help="side of the input of the SAM that it starts (1024)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N", help="of the optimiser (20000)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures in a step (64)")
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="at its height (5e-4)")
    parser.add_argument("--warmup-steps", type=int, metavar="N", help="until then (500)")
    parser.add_argument(
        "--held-out", type=float, metavar="SHARE",
        help="share of the pictures that is only measured on (0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("auto", "bfloat16", "float32"),
        help="of the forward pass (auto: bfloat16 where the device has it)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, crops and masks (0)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="processes that prepare pictures (%(default)s: none beside the command)",
    )  # fmt: skip
    parser.add_argument(
        "--device", metavar="NAME",
        help="cpu, cuda, cuda:1, mps (the first CUDA GPU, or the CPU where there is none)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.add_argument(
        "--overwrite", action="store_true", help="start again where the folder holds a run"
    )
    parser.set_defaults(run=lambda args: run(args, parser))


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name unlabelled pictures."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files (TIFF, OME-TIFF, PNG, JPEG, WebP, BMP, GIF, Zarr, OME-Zarr), folders or "
        "patterns",
    )
    parser.add_argument(
        "--channels", type=arguments.channels, metavar="MAP",
        help="channels by number or name: red=0,green=DAPI, or 0,2",
    )  # fmt: skip


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Pre-train, or go on; return the exit code."""
    if args.workers < 0:
        parser.error(f"--workers must be 0 or more, got {args.workers}")
    from sam_plugins.model.engine.pretraining import Hooks, pretrain
    from sam_plugins.model.inference.loading import checked_device

    config = _config(args, parser)
    device = checked_device(args.device)
    failures = Failures(args.debug)
    paths = found_pictures(args.images, failures)
    with StageBars() as bars:
        result = pretrain(
            paths,
            Path(args.output),
            config,
            channels=args.channels,
            device=device,
            workers=args.workers,
            overwrite=args.overwrite,
            hooks=Hooks(
                on_failure=failures.add,
                on_reading=lambda done, total: bars("reading", done, total),
                on_progress=lambda now: bars("pre-training", now.step, now.steps),
            ),
        )
    if args.json:
        say_json(_plain(result, failures))
    else:
        _tell(result)
    failures.summarise(result.pictures + result.held_out, "used")
    return 1 if failures else 0


def found_pictures(named: list[str], failures: Failures) -> list[Path]:
    """Return the pictures that were named, and report what names none.

    A pattern may match folders, too: their pictures are meant.
    """
    from sam_plugins.cli.inputs import find_images

    found: list[Path] = []
    for name in named:
        try:
            for path in find_images(name):
                found += find_images(str(path)) if path.is_dir() else [path]
        except SamPluginsError as error:
            failures.add(name, error)
    mention(f"found {len(found)} files")
    return found


def _config(args: argparse.Namespace, parser: argparse.ArgumentParser) -> PretrainingConfig:
    """Return the numbers of the run: those of a file, changed by options."""
    from sam_plugins.model.training.pretraining_config import NETWORKS, PretrainingConfig

    config = PretrainingConfig.read(Path(args.config)) if args.config else PretrainingConfig()
    network = config.network if args.encoder is None else NETWORKS[args.encoder]
    size = network.image_size if args.input_size is None else args.input_size
    given = {name: getattr(args, option) for name, option in _VALUES.items()}
    try:
        config = replace(config, network=replace(network, image_size=size))
        return replace(config, **{key: value for key, value in given.items() if value is not None})
    except ValueError as error:
        typed = {"image_size": "input_size", **_VALUES}
        options = {name: f"--{option.replace('_', '-')}" for name, option in typed.items()}
        parser.error(with_options(str(error), options))


def _tell(result: Pretrained) -> None:
    """Print the losses on held-out pictures, and where everything is."""
    every = max(1, -(-len(result.checks) // _SHOWN_CHECKS))
    shown = [*result.checks[: len(result.checks) - 1 : every], *result.checks[-1:]]
    rows = [
        {
            "step": str(check.step),
            "held-out loss": f"{check.loss:.4f}",
            "of a constant": f"{check.constant:.4f}",
        }
        for check in shown
    ]
    if rows:
        say(table(rows))
    say(f"{result.pictures} pictures learned from, {result.held_out} held out")
    for path, meaning in (
        (result.mae_path, "the autoencoder, with the official names"),
        (result.sam_path, "a SAM that starts from it: give it to `train --from`"),
        (result.mae_path.with_name("reconstructions.png"), "look at this one"),
    ):
        if path.exists():
            say(f"  {path}  ({meaning})")


def _plain(result: Pretrained, failures: Failures) -> dict[str, Any]:
    """Return the result for JSON."""
    return {
        "mae": str(result.mae_path),
        "sam": str(result.sam_path),
        "pictures": result.pictures,
        "held_out": result.held_out,
        "checks": [asdict(check) for check in result.checks],
        "failed": failures.entries,
    }
