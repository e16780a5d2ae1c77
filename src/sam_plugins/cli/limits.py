"""What the system must allow before the libraries are imported: they crash where they may not."""

from __future__ import annotations

import sys

from sam_plugins.errors import MemoryLimitError

LEAST_ADDRESS_SPACE = 1_000_000 * 1024
"""Bytes that Python, NumPy and PyTorch need to start; below, native code may abort unheard."""


def require_address_space() -> None:
    """Raise ``MemoryLimitError`` where ``ulimit -v`` leaves too little to start with."""
    if sys.platform == "win32":
        return  # has no such limit
    import resource  # Windows has none

    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < LEAST_ADDRESS_SPACE:
        raise MemoryLimitError(
            f"memory ran out before the start: this process may use {allowed // 1024} kB (ulimit "
            f"-v), PyTorch alone needs {LEAST_ADDRESS_SPACE // 1024} kB; allow it more"
        )
