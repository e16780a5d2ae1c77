"""``sam-plugins demo``: a real microscopy picture, segmented by the model that came along."""

from __future__ import annotations

import argparse
import importlib.resources
import shutil
import sys
from pathlib import Path

from sam_plugins.cli import arguments
from sam_plugins.cli.arguments import add_model_options
from sam_plugins.cli.console import counted, say

PICTURE = "ihc_colon.png"


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="segment a picture that comes with the package",
        description=arguments.in_words(__doc__),
    )
    parser.add_argument("-o", "--output", default="demo-output", metavar="DIR", help="%(default)s")
    add_model_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results even where somebody changed them"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment the picture that comes with the package; return the exit code."""
    from sam_plugins.cli.core import PromptChoice, Running
    from sam_plugins.cli.failures import Failures
    from sam_plugins.cli.results import Job
    from sam_plugins.cli.segment_jobs import Order, Summary, segment_jobs
    from sam_plugins.cli.tiles import TileChoice
    from sam_plugins.cli.view import View
    from sam_plugins.model.cluster.outcome import SerialRunner
    from sam_plugins.model.io.leftovers import remove_leftovers

    summary = Summary(failures=Failures(args.debug))
    package = importlib.resources.files("sam_plugins")
    with importlib.resources.as_file(package / "data" / PICTURE) as picture:
        job = Job(picture, picture.stem, Path(args.output), args.overwrite)
        remove_leftovers(job.folder)
        job.refuse_to_overwrite()
        order = Order(
            args.model,
            Running(args.device),
            "auto",
            PromptChoice(),
            View(),
            choice=TileChoice(),
        )
        segment_jobs([job], order, summary, SerialRunner())
    if summary.failures:
        return 1
    done = summary.results[0]
    say(f"{counted(done['objects'], 'object')} in {done['seconds']:.1f} s with {summary.model_id}")
    for kind, meaning in (
        ("labels", "one number per object"),
        ("overlay", "look at this one"),
        ("objects", "score, area, box and mask of each object"),
    ):
        say(f"  {done['files'][kind]}  ({meaning})")
    say(f"Now yours:  {_command()} segment PICTURE -o results")
    return 0


def _command() -> str:
    """Return how to call this program: by its path where the shell would not find it."""
    if shutil.which("sam-plugins"):
        return "sam-plugins"
    beside = Path(sys.executable).with_name("sam-plugins")
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)
