"""The parser of ``sam-plugins engine``."""

from __future__ import annotations

import argparse

from sam_plugins.cli.engine import (
    automatic,
    choosing,
    exporting,
    labelling,
    learning,
    pictures,
    playing,
)

_DESCRIPTION = (
    "A project is a folder of pictures' labels, and what people and a model did with them. "
    "One job at a time works on it; labelling goes on meanwhile."
)


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "engine",
        help="label pictures together with a model that learns from it",
        description=_DESCRIPTION,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("project", metavar="PROJECT", help="folder of the project")
    shared.add_argument("--json", action="store_true", help="print JSON")
    pictures.add_init(actions, shared)
    pictures.add_import(actions, shared)
    choosing.add_next(actions, shared)
    labelling.add_label(actions, shared)
    learning.add_train(actions, shared)
    learning.add_promote(actions, shared)
    automatic.add_run_auto(actions, shared)
    pictures.add_status(actions, shared)
    exporting.add_export(actions, shared)
    playing.add_simulate(actions, common)
