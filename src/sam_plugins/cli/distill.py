"""``sam-plugins distill``: a small model that answers as a large one does."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import StageBars, say, say_json, table
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.pretrain import add_pictures, found_pictures
from sam_plugins.cli.wording import with_options

if TYPE_CHECKING:
    from sam_plugins.model.engine.distillation import Distilled

STUDENTS = ("tiny_vit", "pyramid", "vit-small")
_OPTIONS = {
    "steps": "--steps",
    "decoder_steps": "--decoder-steps",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "held_out_share": "--held-out",
    "seed": "--seed",
}
"""Options, by what they are called in Python."""


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "distill",
        parents=[common],
        help="distil a large model into a small one",
        description="Teach a small image encoder to give the image embeddings of a large one, on "
        "unlabelled pictures, and put the large one's decoders behind it. Run the same command "
        "again to go on with a run that was stopped or killed.",
        epilog="FILE is a model wherever one is asked for: `sam-plugins segment --model FILE`.",
    )
    parser.add_argument("teacher", metavar="TEACHER", help="name or file of the large model")
    add_pictures(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE",
        help="the small model, a file that ends in .safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--student", choices=STUDENTS, default="tiny_vit",
        help="the small image encoder (%(default)s, MobileSAM's); a teacher whose decoders read "
        "finer maps, as the shipped model's do, needs pyramid",
    )  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="of the small model (that of FILE)")
    parser.add_argument(
        "--work", metavar="DIR",
        help="folder of the state, the logs and the teacher's embeddings (beside FILE)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=4000, metavar="N",
        help="in which the image encoder learns (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--decoder-steps", type=int, default=0, metavar="N",
        help="after these, in which the mask decoder adapts to it (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures in a step (%(default)s)"
    )
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, metavar="RATE",
        help="of the image encoder at its height (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.1, metavar="SHARE",
        help="share of the pictures that is only measured on (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("auto", "bfloat16", "float32"), default="auto",
        help="of the student's forward pass (auto: bfloat16 where the device has it)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of weights, order and clicks (%(default)s)",
    )
    parser.add_argument(
        "--device", metavar="NAME",
        help="cpu, cuda, cuda:1, mps (the first CUDA GPU, or the CPU where there is none)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FILE, and start the run again"
    )
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Distil, or go on; return the exit code."""
    if not args.output.endswith(".safetensors"):
        parser.error(f"-o must name a file that ends in .safetensors, got {args.output!r}")
    from sam_plugins.model.engine.distillation import Hooks, distil
    from sam_plugins.model.inference.loading import checked_device
    from sam_plugins.model.training.distillation_config import DistillationConfig

    try:
        config = DistillationConfig(
            steps=args.steps,
            decoder_steps=args.decoder_steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            held_out_share=args.held_out,
            precision=args.precision,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(with_options(str(error), _OPTIONS))
    device = checked_device(args.device)
    failures = Failures(args.debug)
    paths = found_pictures(args.images, failures)
    with StageBars() as bars:
        result = distil(
            args.teacher,
            paths,
            Path(args.output),
            args.student,
            config,
            name=args.name,
            work=None if args.work is None else Path(args.work),
            channels=args.channels,
            device=device,
            overwrite=args.overwrite,
            hooks=Hooks(failures.add, lambda now: bars(now.stage, now.done, now.of)),
        )
    if args.json:
        say_json(_plain(result, failures))
    else:
        _tell(result)
    failures.summarise(result.pictures + result.held_out, "used")
    return 1 if failures else 0


def _tell(result: Distilled) -> None:
    """Print how far student and teacher agree, and where the student is."""
    rows = [
        {
            "step": str(check.step),
            "loss": f"{check.loss:.3f}",
            "IoU with the teacher": f"{check.confident_iou:.3f}",
            "of the same mask": f"{check.same_iou:.3f}",
        }
        for check in result.checks
    ]
    if rows:
        say(table(rows))
        say(
            f"On {result.held_out} held-out pictures, {result.checks[-1].clicks} clicks; a student "
            "that always answers the mean has the loss 1."
        )
    say(
        f"{result.path}: an image encoder of {result.student_weights / 1e6:.1f} million weights, "
        f"that of {result.teacher_id} has {result.teacher_weights / 1e6:.1f}"
    )


def _plain(result: Distilled, failures: Failures) -> dict[str, Any]:
    """Return the result for JSON."""
    return {
        "path": str(result.path),
        "teacher": result.teacher_id,
        "pictures": result.pictures,
        "held_out": result.held_out,
        "weights": {"teacher": result.teacher_weights, "student": result.student_weights},
        "checks": [asdict(check) for check in result.checks],
        "failed": failures.entries,
    }
