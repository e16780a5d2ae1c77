"""Which scheduler people mean, and whether a cluster of processes pays where they did not say."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable

from sam_plugins.errors import MissingExtraError, how_to_install

NONE = "none"
LOCAL = "local"

MANY = 32
"""From so many tasks on, processes of their own pay for starting: a few seconds for each."""

_ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx|inproc)://)?[^\s/:]+:\d+/?|inproc://\S+")
_SCHEDULER_FILE = ".json"


def parse_scheduler(text: str) -> str:
    """Return a checked name of a scheduler.

    Parameters
    ----------
    text : str
        ``"none"``, ``"local"``, an address such as ``tcp://node7:8786`` or ``node7:8786``, or the
        file that ``dask scheduler --scheduler-file`` writes.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> parse_scheduler("node7:8786")
    'tcp://node7:8786'
    """
    if text in {NONE, LOCAL} or text.endswith(_SCHEDULER_FILE):
        return text
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(
            "expected none, local, the address of a Dask scheduler such as tcp://node7:8786, or "
            f"its scheduler file (.json), got {text!r}"
        )
    return text if "://" in text else f"tcp://{text}"


def choose_scheduler(wanted: str | None, count: int, is_on_cpu: Callable[[], bool]) -> str:
    """Return the scheduler for so many tasks.

    Parameters
    ----------
    wanted : str, optional
        From :func:`parse_scheduler`; taken as it is. Without it, many tasks on a processor with
        several cores go to processes of their own, where the ``scale`` extra is installed.
    count : int
        Tasks.
    is_on_cpu : callable
        Returns whether the model works on the CPU; asked last. A GPU serves one process best.
    """
    if wanted is not None:
        return wanted
    pays = count >= MANY and usable_cores() > 1 and has_dask() and is_on_cpu()
    return LOCAL if pays else NONE


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_dask() -> bool:
    """Return whether the ``scale`` extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("dask", "distributed"))


def require_dask() -> None:
    """Say how to get what a cluster needs.

    Raises
    ------
    MissingExtraError
        If something is missing.
    """
    if not has_dask():
        raise MissingExtraError(
            "spreading work over processes and machines needs dask and distributed; "
            f"{how_to_install('scale')}, or pass --scheduler none"
        )
