"""The parser of ``sam-plugins``, and what its exit codes mean.

====  ==========================================================================
0     everything was done
1     something failed: an image of many, a download, a full disk
2     the command was not understood
130   interrupted with Ctrl-C; files are complete or absent
====  ==========================================================================
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from sam_plugins import __version__
from sam_plugins.cli import demo, evaluate, info, models, segment
from sam_plugins.cli.arguments import joined_negatives
from sam_plugins.cli.console import complain
from sam_plugins.errors import SamPluginsError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="sam-plugins",
        description="Segment anything in your pictures, from the command line.",
        epilog="exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"sam-plugins {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (segment, models, evaluate, info, demo):
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
    args = build_parser().parse_args(joined_negatives(sys.argv[1:] if argv is None else argv))
    try:
        with _warnings_in_one_line():
            code: int = args.run(args)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        complain("interrupted; every file that was written is complete")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output left (`| head`): nothing to say, and nowhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except SamPluginsError as error:
        if args.debug:
            raise
        complain(f"error: {error}")
        return EXIT_FAILED


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show warnings as people read them, without file and line."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        complain(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
