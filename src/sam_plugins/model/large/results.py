"""Results of any size on disk: when they are done, what they are, and how they get their names."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from sam_plugins.errors import OutputError
from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.mark import MARK, mark_of


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


def finished(job: TileJob, output: Path) -> LargeSegmentation | None:
    """Return the result of a job that was done before, None where there is none.

    Raises
    ------
    OutputError
        If there is something else at its place.
    """
    if not output.exists():
        return None
    mark = mark_of(output)
    expected = job.described()
    if mark is None or {key: mark.get(key) for key in expected} != expected:
        whose = "is not ours" if mark is None else "was made with other settings"
        raise OutputError(
            f"{output} exists and {whose}; replace labels of ours with overwrite=True, or choose "
            "another name"
        )
    shutil.rmtree(job.folder, ignore_errors=True)  # Killed before it was removed.
    return LargeSegmentation(output, table_path(output), int(mark["count"]))


def table_path(output: Path) -> Path:
    """Return the file of the table of objects."""
    name = output.name.removesuffix(".zarr").removesuffix("_labels")
    return output.with_name(f"{name}_objects.csv")


def remove_earlier(job: TileJob, output: Path) -> None:
    """Remove labels of ours, and what was begun with other settings."""
    if mark_of(output) is not None:
        shutil.rmtree(output)
    if job.folder.is_dir() and not job.is_begun():
        shutil.rmtree(job.folder)


def publish(job: TileJob, labels: Path, output: Path, count: int) -> None:
    """Mark the labels as complete, give the results their names, and remove those of tiles.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    group = zarr.open_group(labels, mode="r+")
    group.attrs[MARK] = {"count": count, **job.described()}
    try:
        (job.folder / "objects.csv").replace(table_path(output))
        labels.rename(output)
    except OSError as error:
        raise output_error(output, error) from error
    shutil.rmtree(job.folder, ignore_errors=True)
