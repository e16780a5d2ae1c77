"""Large libraries imported in a thread, while the window goes on."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Let Python search for no garbage while libraries are imported, which hardly make any.

    Importing makes so many objects that Python would look through all that there are more than
    once, for a quarter of a second each with PyTorch, pandas and napari in memory. Whichever thread
    that happens in, the window stands still meanwhile. Afterwards the new objects count as old
    ones: they are looked through when those are, and not at once.
    """
    was_searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else some are frozen for good, by somebody else
            gc.freeze()
            gc.unfreeze()
        if was_searching:
            gc.enable()
