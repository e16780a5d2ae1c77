"""Results of any size on disk: when they are done, what they are, and how they get their names."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.mark import MARK, mark_of

_LABELS, _TABLE = "labels.zarr", "objects.csv"
_EARLIER_LABELS, _EARLIER_TABLE = "earlier.zarr", "earlier.csv"
"""Names in the folder of a job: what is new, and what it replaces."""


@dataclass(frozen=True)
class LargeSegmentation:
    """All objects of a picture, on disk.

    Parameters
    ----------
    path : Path
        The labels: an OME-Zarr (NGFF 0.4) of unsigned 32-bit integers, 0 is background.
    table : Path
        One row for each object, as CSV: ``label``, ``score``, ``area`` (pixels), ``x0``, ``y0``,
        ``x1``, ``y1`` (the outermost pixels), ``point_x``, ``point_y``.
    count : int
        Number of objects.
    """

    path: Path
    table: Path
    count: int

    def __len__(self) -> int:
        """Return the number of objects."""
        return self.count

    def labels(self, level: int = 0) -> Any:  # noqa: ANN401
        """Return the labels as a Zarr array, of which only what is indexed is read.

        Parameters
        ----------
        level : int
            0 is the finest.
        """
        return zarr.open_array(self.path / str(level), mode="r")


def work_folder(output: str | os.PathLike[str]) -> Path:
    """Return where the results of tiles are kept until all is done."""
    path = Path(output)
    return path.with_name(f"{path.name}.work")


def finished(job: TileJob, output: Path, *, overwrite: bool = False) -> LargeSegmentation | None:
    """Return the result of a job that was done before, None where there is work to do.

    A run that was killed while its results got their names is finished first.

    Parameters
    ----------
    job : TileJob
    output : Path
        Folder of the labels.
    overwrite : bool
        Whether the work is to be done again. What was begun with other settings is removed;
        earlier results stay until :func:`publish` replaces them.

    Raises
    ------
    OutputError
        If there is something else at its place, or at that of its table.
    """
    was_replacing = _finish_replacing(job.folder, output)
    mark, expected = mark_of(output), job.described()
    is_same = mark is not None and {key: mark.get(key) for key in expected} == expected
    if output.exists() and not is_same and (mark is None or not overwrite):
        whose = "is not ours" if mark is None else "was made with other settings"
        raise OutputError(
            f"{output} exists and {whose}; replace labels of ours with overwrite=True, or choose "
            "another name"
        )
    if overwrite and not (was_replacing and is_same):
        if job.folder.is_dir() and not job.is_begun():
            shutil.rmtree(job.folder)
        return None
    if mark is None:
        _refuse_table(job, table_path(output))
        return None
    if not job.is_of_another():  # Killed before it was removed.
        shutil.rmtree(job.folder, ignore_errors=True)
    return LargeSegmentation(output, table_path(output), int(mark["count"]))


def table_path(output: Path) -> Path:
    """Return the file of the table of objects."""
    name = output.name.removesuffix(".zarr").removesuffix("_labels")
    return output.with_name(f"{name}_objects.csv")


def _refuse_table(job: TileJob, table: Path) -> None:
    """Refuse to replace a table, unless this job put it there before it was killed."""
    if table.exists() and mark_of(job.folder / _LABELS) is None:
        raise OutputError(
            f"{table} exists without the labels that it belongs to; replace it with "
            "overwrite=True, or choose another name"
        )


def publish(
    job: TileJob, labels: Path, output: Path, count: int, *, overwrite: bool = False
) -> None:
    """Mark the labels as complete, give the results their names, and remove those of tiles.

    Earlier results are set aside in the folder of the job when the new ones are complete, and
    removed when these have their names. No file system does that in one step: a run that is killed
    in between is finished by the next one, see :func:`finished`.

    Parameters
    ----------
    job : TileJob
    labels : Path
        The labels, in the folder of the job, as the table is.
    output : Path
        Where they go.
    count : int
        Of the objects.
    overwrite : bool
        Whether earlier results are replaced.

    Raises
    ------
    OutputError
        If that cannot be done; everything is as it was then.
    """
    group = zarr.open_group(labels, mode="r+")
    group.attrs[MARK] = {"count": count, **job.described()}
    table = table_path(output)
    moves = [(job.folder / _TABLE, table), (labels, output)]
    if overwrite:
        shutil.rmtree(job.folder / _EARLIER_LABELS, ignore_errors=True)
        aside = [(output, job.folder / _EARLIER_LABELS), (table, job.folder / _EARLIER_TABLE)]
        moves = [(path, place) for path, place in aside if path.exists()] + moves
    _move(moves)
    shutil.rmtree(job.folder, ignore_errors=True)


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename one after the other, or leave everything as it was."""
    begun: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            begun.append((source, target))  # Noted first: Ctrl-C may come right after the move.
            source.replace(target)
    except BaseException as error:
        for source, target in reversed(begun):
            with contextlib.suppress(OSError):
                if not source.exists():
                    target.replace(source)
        if isinstance(error, OSError):
            raise output_error(begun[-1][1], error) from error
        raise


def _finish_replacing(folder: Path, output: Path) -> bool:
    """Name the results of a run that was killed when it had set earlier ones aside.

    Returns whether there was one.
    """
    if not any((folder / name).exists() for name in (_EARLIER_LABELS, _EARLIER_TABLE)):
        return False
    labels = folder / _LABELS
    if labels.exists():  # It is named last.
        if output.exists():
            return False  # Somebody put other ones there.
        table = folder / _TABLE
        _move([(table, table_path(output))] * table.exists() + [(labels, output)])
    shutil.rmtree(folder, ignore_errors=True)
    return True
