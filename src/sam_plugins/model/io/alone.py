"""One process at a time in the folder of a long run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from sam_plugins.errors import FolderBusyError
from sam_plugins.model.io.atomic import output_error

LOCK_NAME = ".lock"


@contextlib.contextmanager
def working_alone(folder: Path) -> Iterator[None]:
    """Keep other processes from the same run: they would write into its log and its state.

    The lock goes with the process that holds it, however that ends. On a disk that knows no locks
    nobody is kept away.

    Raises
    ------
    FolderBusyError
        If another process is at work there.
    OutputError
        If nothing can be written there.
    """
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise FolderBusyError(
            f"another process is at work on the run in {folder}; wait until it is done, or end it "
            "and go on"
        ) from error
    except NotImplementedError:
        pass
    except OSError as error:
        raise output_error(folder / LOCK_NAME, error) from error
    try:
        yield
    finally:
        lock.release()
