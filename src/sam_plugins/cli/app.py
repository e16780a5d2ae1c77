"""The parser of ``sam-plugins``, and what its exit codes mean.

====  ==========================================================================
0     everything was done
1     something failed: an image of many, a download, a full disk
2     the command was not understood
130   interrupted with Ctrl-C; files are complete or absent
141   the reader of a pipe left before everything was said
143   ended by SIGTERM (129: SIGHUP), as after Ctrl-C
====  ==========================================================================
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from sam_plugins import __version__
from sam_plugins.cli import (
    demo,
    distill,
    embed,
    engine,
    evaluate,
    info,
    labelstudio,
    models,
    pretrain,
    segment,
    train,
)
from sam_plugins.cli.arguments import joined_negatives
from sam_plugins.cli.console import (
    StandardOutputError,
    abandon_output,
    complain,
    flush_output,
    occupy_closed_streams,
    say_json,
    warnings_in_one_line,
)
from sam_plugins.cli.failures import explained
from sam_plugins.cli.limits import require_address_space
from sam_plugins.cli.signals import Terminated, ended_by_signals

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
_INTERRUPTED = "interrupted; every file that was written is complete"


class _WrongUsage(SystemExit):
    """The command was not understood; standard error has said why."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_USAGE)
        self.message = message


class _Parser(argparse.ArgumentParser):
    """Let what is wrong be known to who parses; the parsers of commands are such ones, too.

    Options are typed in full: an abbreviation means another one, or none, once there are more.
    """

    def __init__(self, **values: Any) -> None:  # noqa: ANN401
        super().__init__(**{**values, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to read more, each in a line, and leave."""
        complain(f"error: {message}")
        complain(f"see `{self.prog} --help`")
        raise _WrongUsage(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Refuse unknown options by the command that does not know them, whose help is named."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; imports nothing heavy."""
    parser = _Parser(
        prog="sam-plugins",
        description="Segment anything in your pictures, from the command line.",
        epilog="exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted, "
        "141 nobody reads the output, 143 ended by SIGTERM",
    )
    parser.add_argument("--version", action="version", version=f"sam-plugins {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        segment,
        embed,
        models,
        evaluate,
        train,
        pretrain,
        distill,
        engine,
        labelstudio,
        info,
        demo,
    ):
        command.add_parser(commands, common)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code. Wrong usage leaves with ``SystemExit(2)``, as argparse does.
    """
    occupy_closed_streams()
    typed = joined_negatives(sys.argv[1:] if argv is None else argv)
    try:
        with ended_by_signals(), warnings_in_one_line():
            return _answer(build_parser(), typed)
    except BrokenPipeError:
        # the reader of our output left (`| head`): nothing to say, and nowhere to say it
        abandon_output()
        return EXIT_PIPE
    except StandardOutputError as error:
        complain(f"error: {error}")
        abandon_output()
        return EXIT_FAILED


def _answer(parser: argparse.ArgumentParser, typed: Sequence[str]) -> int:
    """Run a command and say what went wrong; return the exit code."""
    try:
        if "" in typed:  # the current folder would be taken for what was meant
            parser.error("an argument is empty; is a variable of the shell not set?")
        args = parser.parse_args(typed)
    except _WrongUsage as wrong:
        _say_wrong_usage(typed, wrong)
        _tell_dashes(typed)
        raise
    finally:
        flush_output()  # what --help and --version said
    try:
        require_address_space()
        code: int = args.run(args)
        return code
    except (BrokenPipeError, StandardOutputError):
        raise
    except KeyboardInterrupt:
        _say_end(args, _INTERRUPTED)
        return EXIT_INTERRUPTED
    except Terminated:
        _say_end(args, _INTERRUPTED)
        raise
    except _WrongUsage as wrong:
        _say_wrong_usage(typed, wrong)
        raise
    except Exception as error:  # noqa: BLE001  # a traceback is for --debug
        if args.debug:
            traceback.print_exception(error)
        message = explained(error)
        _say_end(args, message, f"error: {message}")
        return EXIT_FAILED


def _say_wrong_usage(typed: Sequence[str], wrong: _WrongUsage) -> None:
    """Say why a command was not understood as JSON where that was typed: nothing was parsed."""
    if "--json" in typed:
        say_json({"error": " ".join(wrong.message.split())})


def _tell_dashes(typed: Sequence[str]) -> None:
    """Say how files are named whose names look like options, as ``*.png`` brings them."""
    for name in typed:
        if name == "--":
            return
        if name.startswith("-") and os.path.lexists(name):
            complain(f"{name} is a file: name it ./{name}")
            return


def _say_end(args: argparse.Namespace, message: str, line: str | None = None) -> None:
    """Say why a command ended early, as JSON too where that was asked for."""
    complain(line or message)
    if getattr(args, "json", False):
        so_far = getattr(args, "so_far", dict)
        say_json({**so_far(), "error": " ".join(message.split())})
