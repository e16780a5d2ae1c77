"""What killed processes have left in a folder is finished or removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from sam_plugins.model.io.temporary import TEMPORARY_SUFFIX, is_left_behind
from sam_plugins.model.io.together import taking_turns


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Finish or remove what processes that were killed have left in a folder.

    Parameters
    ----------
    folder : path-like
        Its hidden files and folders of what was being written, made on this machine by a process
        that is gone, are removed. Where a process was killed while files of
        :func:`~sam_plugins.model.io.together.files_together` got their names, the rest of them get
        theirs; once somebody has made one of them again, only those that are missing. What may
        belong to a living process, here or on another machine, stays; so does everything on
        Windows, which cannot tell.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError), taking_turns(folder):
        for path in sorted(Path(folder).glob(f".*{TEMPORARY_SUFFIX}")):
            if is_left_behind(path):
                _clear(path)


def _clear(leftover: Path) -> None:
    """Remove a temporary file, or a folder of ``files_together``, finishing what it began."""
    if not leftover.is_dir():
        with contextlib.suppress(OSError):
            leftover.unlink()
        return
    new, old = leftover / "new", leftover / "old"
    if old.is_dir() and any(old.iterdir()):
        if not new.is_dir():
            return  # an older file that could not be put back is kept
        # older files are set aside when all new ones are complete
        places = {path: leftover.parent / path.name for path in new.iterdir()}
        is_made_anew = any(
            place.exists() and (old / place.name).exists() for place in places.values()
        )
        for path, place in places.items():
            if not (is_made_anew and place.exists()):
                path.replace(place)
    shutil.rmtree(leftover, ignore_errors=True)
