"""The option that says which objects are worth a look."""

from __future__ import annotations

import argparse


def add_option(parser: argparse.ArgumentParser, usual: str) -> None:
    """Add the option that says what is worth a look."""
    parser.add_argument(
        "--min-score", type=float, metavar="SCORE",
        help=f"propose objects from this score on, 0 to 1 ({usual})",
    )  # fmt: skip


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what is no score."""
    if args.min_score is not None and not 0 <= args.min_score <= 1:
        parser.error(f"--min-score must lie between 0 and 1, got {args.min_score}")
