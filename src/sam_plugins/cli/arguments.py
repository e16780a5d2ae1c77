"""What people type, as values: points, boxes, channels, planes and limits."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable

_XY = 2
_XYXY = 4
_ZYX = 3
_BACKENDS = ("torch", "auto", "openvino", "onnxruntime", "compile")
_NEGATIVE_LIST = re.compile(r"-[\d.].*,.*")


def in_words(docstring: str | None) -> str:
    """Return the docstring of a command's module as its help says it.

    Examples
    --------
    >>> in_words("``sam-plugins info``: what is here.")
    'What is here.'
    """
    words = (docstring or "").partition("``: ")[2]
    return words[:1].upper() + words[1:]


def joined_negatives(argv: Iterable[str]) -> list[str]:
    """Return arguments with lists that begin with a minus tied to the option before them.

    argparse takes ``-160,240`` for an option, but not ``--limits=-160,240``.

    Examples
    --------
    >>> joined_negatives(["--limits", "-160,240", "ct.tif"])
    ['--limits=-160,240', 'ct.tif']
    """
    joined: list[str] = []
    for argument in argv:
        is_tied = bool(joined) and joined[-1].startswith("--") and "=" not in joined[-1]
        if is_tied and "--" not in joined and _NEGATIVE_LIST.fullmatch(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command with a model has."""
    parser.add_argument(
        "--model", default="default", metavar="NAME", help="name or file of a model (%(default)s)"
    )
    parser.add_argument(
        "--device", metavar="NAME",
        help="cpu, cuda, cuda:1, mps (the first CUDA GPU, or the CPU where there is none)",
    )  # fmt: skip


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how exactly, and by what, a model is run."""
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "bfloat16", "auto"),
        help="bfloat16 is two to four times as fast where the processor computes in it; auto "
        "measures that (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--backend", default="torch", choices=_BACKENDS,
        help="what runs the image encoder; auto tries what is installed, once (%(default)s)",
    )  # fmt: skip


def point(text: str) -> tuple[float, float]:
    """Return ``"x,y"`` as numbers.

    Raises
    ------
    ArgumentTypeError
        If it is no point.

    Examples
    --------
    >>> point("12,30.5")
    (12.0, 30.5)
    """
    x, y = _numbers(text, _XY, "a point as x,y such as 120,85")
    return x, y


def box(text: str) -> tuple[float, float, float, float]:
    """Return ``"x0,y0,x1,y1"`` as numbers.

    Raises
    ------
    ArgumentTypeError
        If it is no box with x0 < x1 and y0 < y1.
    """
    expected = "a box as x0,y0,x1,y1 such as 10,20,80,90"
    x0, y0, x1, y1 = _numbers(text, _XYXY, expected)
    if x0 >= x1 or y0 >= y1:
        raise argparse.ArgumentTypeError(f"expected {expected} with x0 < x1, y0 < y1, got {text!r}")
    return x0, y0, x1, y1


def limits(text: str) -> tuple[float, float]:
    """Return ``"low,high"`` as numbers.

    Raises
    ------
    ArgumentTypeError
        If it is no range.
    """
    expected = "limits as low,high such as 100,4000"
    low, high = _numbers(text, _XY, expected)
    if low >= high:
        raise argparse.ArgumentTypeError(f"expected {expected} with low < high, got {text!r}")
    return low, high


def voxel_size(text: str) -> tuple[float, float, float]:
    """Return ``"z,y,x"`` as lengths.

    Raises
    ------
    ArgumentTypeError
        If these are no three lengths above 0.

    Examples
    --------
    >>> voxel_size("2,0.5,0.5")
    (2.0, 0.5, 0.5)
    """
    expected = "lengths as z,y,x such as 2,0.5,0.5"
    z, y, x = _numbers(text, _ZYX, expected)
    if min(z, y, x) <= 0:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return z, y, x


def channels(text: str) -> dict[str, int | str] | list[int | str]:
    """Return ``"red=0,green=DAPI"`` as a mapping, ``"0,2"`` as a list.

    Raises
    ------
    ArgumentTypeError
        If it is a mixture or something is missing.

    Examples
    --------
    >>> channels("red=0,blue=DAPI")
    {'red': 0, 'blue': 'DAPI'}
    """
    expected = "channels as red=0,green=2 or 0,2, numbers from 0 or names"
    parts = [part.strip() for part in text.split(",")]
    pairs = [part.partition("=") for part in parts]
    is_mapping = all(equals for _, equals, _ in pairs)
    if is_mapping and all(colour and channel for colour, _, channel in pairs):
        mapping = {colour.strip().lower(): _channel(channel) for colour, _, channel in pairs}
        if len(mapping) == len(pairs):
            return mapping
    elif all(parts) and not any(equals for _, equals, _ in pairs):
        return [_channel(part) for part in parts]
    raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")


def plane(text: str) -> int | dict[str, int]:
    """Return ``"5"`` as a number, ``"Z=5,T=0"`` as a mapping.

    Raises
    ------
    ArgumentTypeError
        If it is neither.
    """
    try:
        if "=" not in text:
            return int(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {axis.strip().upper(): int(index) for axis, index in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a plane as 5 or Z=5,T=0, numbers from 0, got {text!r}"
        ) from None


def version_number(text: str) -> int:
    """Return the number of a version of a stored model.

    Raises
    ------
    ArgumentTypeError
        If there can be no such version.
    """
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(
            f"versions are counted from 1, got {text!r}; `sam-plugins models versions` lists them"
        )
    return int(text)


def stored_model(text: str) -> str:
    """Return ``"name"`` or ``"name@3"`` as it is.

    Raises
    ------
    ArgumentTypeError
        If what follows the ``@`` is no number of a version.
    """
    _, at, number = text.partition("@")
    if at:
        version_number(number)
    return text


def _numbers(text: str, count: int, expected: str) -> list[float]:
    """Return comma-separated finite numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return numbers


def _channel(text: str) -> int | str:
    """Return a channel's number, or its name."""
    text = text.strip()
    return int(text) if text.isdecimal() else text
