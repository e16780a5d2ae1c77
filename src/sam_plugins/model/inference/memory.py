"""How much memory there is, and an error that says what would fit when it is not enough."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sam_plugins.errors import MemoryLimitError, is_out_of_memory, memory_doubt

if sys.platform != "win32":
    import resource

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = (
    # Version 2, then version 1: limit, use, statistics, and how their names begin there.
    ("memory.max", "memory.current", "memory.stat", ""),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_",
    ),
)
_MEMINFO = Path("/proc/meminfo")
_OWN_USE = Path("/proc/self/statm")
_SMALLEST = 15_000_000
"""Parameters: no model that has a name is smaller than the shipped one and MobileSAM, which have
twelve and ten million."""
_ADDRESS_SPACE, _DATA = 0, 5  # fields of it; the second one counts the stack, too


@contextlib.contextmanager
def memory_limits(what: str, remedy: Callable[[], str]) -> Iterator[None]:
    """Translate every way in which memory runs out.

    Parameters
    ----------
    what : str
        What was tried, as the start of a sentence: ``"encoding a picture"``.
    remedy : callable
        Called only when memory ran out; says what would fit.

    Raises
    ------
    MemoryLimitError
        For NumPy's, PyTorch's and CUDA's errors.
    """
    try:
        yield
    except MemoryLimitError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        free = available_bytes()
        state = "" if free is None else f" ({in_units(free)} are free)"
        raise MemoryLimitError(
            f"{what} ran out of memory{state}{memory_doubt(error)}; {remedy()}"
        ) from error


def require_memory(needed: int, what: str, remedy: Callable[[int], str]) -> None:
    """Refuse work that cannot fit, before the machine starts to swap.

    Parameters
    ----------
    needed : int
        Bytes.
    what : str
        What they are for, as the start of a sentence.
    remedy : callable
        From the free bytes to what would fit.

    Raises
    ------
    MemoryLimitError
        If less is free; nothing happens where the system does not tell.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise MemoryLimitError(
            f"{what} would need {in_units(needed)} of memory, {in_units(free)} are free; "
            f"{remedy(free)}"
        )


def smaller_model_or(parameters: int) -> str:
    """Return the beginning of a remedy for large models; nothing where no smaller one is known.

    Examples
    --------
    >>> smaller_model_or(90_000_000)
    "use a smaller model, such as 'default', or "
    """
    return "use a smaller model, such as 'default', or " if parameters > _SMALLEST else ""


def half_of(size_hw: tuple[int, int], long_side: int) -> str:
    """Return the size of a picture of which a model sees a quarter of the pixels, in words.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    long_side : int
        That the model sees of any larger picture.

    Examples
    --------
    >>> half_of((3000, 4000), 1024)
    '384 x 512 pixels'
    """
    factor = min(1.0, long_side / max(size_hw)) / 2
    height, width = (max(1, round(side * factor)) for side in size_hw)
    return f"{height} x {width} pixels"


def available_bytes() -> int | None:
    """Return how much memory can still be had, or None where the system does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        match = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(encoding="ascii"))
        found += [int(match[1]) * 1024] if match else []
    for limit_name, used_name, statistics_name, prefix in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # a container may allow less
            limit = int((_CGROUP / limit_name).read_text(encoding="ascii"))
            used = int((_CGROUP / used_name).read_text(encoding="ascii"))
            found.append(max(0, limit - max(0, used - _file_cache(statistics_name, prefix))))
    with contextlib.suppress(OSError, ValueError, IndexError):  # `ulimit -v`, `ulimit -d`
        found += [max(0, limit - _own_use(field)) for limit, field in _own_limits()]
    return min(found, default=None)


def _own_limits() -> list[tuple[int, int]]:
    """Return the limits of this process in bytes, and which field of its use counts for each."""
    if sys.platform == "win32":
        return []
    kinds = ((resource.RLIMIT_AS, _ADDRESS_SPACE), (resource.RLIMIT_DATA, _DATA))
    found = [(resource.getrlimit(kind)[0], field) for kind, field in kinds]
    return [one for one in found if one[0] != resource.RLIM_INFINITY]


def _own_use(field: int) -> int:
    """Return the bytes that this process has of one kind of memory."""
    if sys.platform == "win32":
        return 0
    return int(_OWN_USE.read_text(encoding="ascii").split()[field]) * resource.getpagesize()


def _file_cache(statistics_name: str, prefix: str) -> int:
    """Return the bytes of files in a container's memory, which the kernel gives up for us."""
    try:
        text = (_CGROUP / statistics_name).read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", text, re.MULTILINE)
    return sum(int(size) for size in found)


def in_units(size: int) -> str:
    """Return bytes as people say them.

    Examples
    --------
    >>> in_units(1_600_000_000)
    '1.6 GB'
    """
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
