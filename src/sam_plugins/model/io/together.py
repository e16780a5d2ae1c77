"""Files that belong together appear all at once, or none of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import output_error, refuse_folder
from sam_plugins.model.io.temporary import temporary_within

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def files_together(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """Write files that belong together; they get their names when all of them are complete.

    Parameters
    ----------
    paths : sequence of path-like
        Files of one folder, in the order in which they appear. Older files of these names stay
        untouched until all new ones are complete.

    Yields
    ------
    list of Path
        Where to write them: the same names, in the same order, in a hidden folder beside.

    Raises
    ------
    OutputError
        If a file cannot be written; the older ones are as they were then.
    ValueError
        If there are no paths, or of more than one folder.

    Notes
    -----
    No file system renames several files in one step. The older ones are set aside, the last of
    ``paths`` first, then the new ones take their places, the first of ``paths`` first; an
    exception in between, Ctrl-C included, is followed by the way back. Only a machine that stops in
    this moment can leave a part of them, and the first of ``paths`` is in every such part.

    Processes that write the same files take turns: the last one has all of them.
    """
    targets = [Path(path) for path in paths]
    if len({target.parent for target in targets}) != 1:
        raise ValueError(f"paths must be files of one folder, got {[str(t) for t in targets]}")
    folder = targets[0].parent
    staging = temporary_within(folder)
    new, old = staging / "new", staging / "old"
    try:
        for made in (staging, new, old):
            made.mkdir()
        yield [new / target.name for target in targets]
        with taking_turns(folder):
            _exchange(targets, new, old)
        shutil.rmtree(old, ignore_errors=True)
    except OutputError as error:
        raise OutputError(str(error).replace(str(new), str(folder))) from error
    except OSError as error:
        raise output_error(targets[0], error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        for made in (old, staging):
            # not empty only where an older file could not be put back: it is kept
            with contextlib.suppress(OSError):
                made.rmdir()


@contextlib.contextmanager
def taking_turns(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait while another process gives files of a folder their names; the next one waits for us.

    On Windows, and on file systems without locks, nobody waits.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # the work itself meets it, too, and says which file it is about
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back, as does the end of the process


def _exchange(targets: Sequence[Path], new: Path, old: Path) -> None:
    """Set the older files aside and name the new ones, or leave everything as it was."""
    moves: list[tuple[Path, Path]] = []

    def move(source: Path, destination: Path, named: Path) -> None:
        moves.append((source, destination))  # noted first: Ctrl-C may come right after the move
        try:
            source.replace(destination)
        except OSError as error:
            raise output_error(named, error) from error

    try:
        for target in reversed(targets):
            refuse_folder(target)
            if target.exists():
                with _vanishing(target):
                    move(target, old / target.name, target)
        for target in targets:
            move(new / target.name, target, target)
    except BaseException:
        for source, destination in reversed(moves):
            with contextlib.suppress(OSError):
                if not source.exists():
                    destination.replace(source)
        raise


@contextlib.contextmanager
def _vanishing(path: Path) -> Iterator[None]:
    """Go on where a file to set aside is gone: another process, without locks, was quicker."""
    try:
        yield
    except OutputError:
        if path.exists() or not path.parent.is_dir():
            raise
