"""One tile -> one file: what a scheduler runs, in this process or on another machine."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.coordinates import points_to_original
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.atomic import write_bytes
from sam_plugins.model.large.job import Finder, TileJob
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.plan import within


@dataclass(frozen=True, eq=False)
class TileResult:
    """The objects of one tile: label ``i + 1`` has the figures at place ``i``.

    Parameters
    ----------
    labels : ndarray of shape (h, w), unsigned integer
        Of the window, 0 is background.
    scores : ndarray of shape (n,), float32
    points_xy : ndarray of shape (n, 2), float32
        The point that each object was found from, in pixels of the picture.
    """

    labels: npt.NDArray[np.unsignedinteger]
    scores: npt.NDArray[np.float32]
    points_xy: npt.NDArray[np.float32]


def segment_tile(
    job: TileJob, index: int, find: Finder, *, picture: LazyPicture | None = None
) -> Path:
    """Segment one tile, unless that has been done, and keep the result on disk.

    Any number of processes may work on the tiles of a job, in any order: a tile depends on no
    other, and its file appears complete or not at all.

    Parameters
    ----------
    job : TileJob
        Begun with :meth:`TileJob.begin`.
    index : int
        Of the tile in the plan.
    find : callable
        Finds the objects, such as :func:`~sam_plugins.model.large.job.model_finder` of the job's
        model, loaded once per process.
    picture : LazyPicture, optional
        The open picture, where several tiles are done in a row; opened from ``job.source`` by
        default.

    Returns
    -------
    Path
        The file of the result, for :func:`read_tile`.

    Raises
    ------
    IndexError
        If there is no such tile.
    ImageError
        If the picture cannot be read.
    OutputError
        If the result cannot be written.
    MemoryLimitError
        If memory runs out.
    """
    path, tile = job.tile_path(index), job.plan[index]
    if job.is_done(index):
        return path
    with job.source.open() if picture is None else contextlib.nullcontext(picture) as opened:
        shown = replace(opened, limits=job.contrast, sample=None)
        if index == 0 and job.coarse is not None:
            _segment_coarse(job, find, shown)
        rgb = shown.rgb(tile.window)
    return keep_tile(job, index, find(rgb, within(job.plan.near(tile), tile.window)))


def keep_tile(job: TileJob, index: int, found: Segmentation) -> Path:
    """Keep what was found in the window of a tile on disk, and return the file.

    Parameters
    ----------
    job : TileJob
        Whose folders are made.
    index : int
        Of the tile in the plan.
    found : Segmentation
        In pixels of the window.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = job.tile_path(index)
    rows, columns = job.plan[index].window
    _write(path, found, (columns.start, rows.start))
    return path


def _segment_coarse(job: TileJob, find: Finder, picture: LazyPicture) -> None:
    """Segment the reduced picture, and keep the result on disk, with points as of tiles."""
    assert job.coarse is not None
    height, width = picture.size_hw
    size_hw = job.coarse.size_of(picture.size_hw)
    found = find(picture.reduced((slice(0, height), slice(0, width)), size_hw), None)
    points_xy = points_to_original(found.points_xy, picture.size_hw, size_hw)
    _write(job.coarse_path, replace(found, points_xy=points_xy), (0, 0))


def read_tile(path: Path) -> TileResult:
    """Return the result of a tile.

    Raises
    ------
    OutputError
        If the file is damaged.
    """
    try:
        with np.load(path) as arrays:
            return TileResult(arrays["labels"], arrays["scores"], arrays["points_xy"])
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise OutputError(
            f"{path}, the result of a tile, is damaged; remove it and start again: what is done "
            "is kept"
        ) from error


def read_tile_if_done(job: TileJob, index: int) -> TileResult:
    """Return the result of a tile; one that is not done has no objects.

    Raises
    ------
    OutputError
        If the file is damaged.
    """
    if job.is_done(index):
        return read_tile(job.tile_path(index))
    return TileResult(
        np.zeros(job.plan[index].window_hw, np.uint16),
        np.zeros(0, np.float32),
        np.zeros((0, 2), np.float32),
    )


def _write(path: Path, found: Segmentation, offset_xy: tuple[int, int]) -> None:
    """Write what was found in a window, with points in pixels of the picture."""
    is_few = len(found) <= np.iinfo(np.uint16).max
    content = io.BytesIO()
    np.savez_compressed(
        content,
        labels=found.labels.astype(np.uint16 if is_few else np.uint32),
        scores=found.scores.astype(np.float32),
        points_xy=(found.points_xy + np.array(offset_xy)).astype(np.float32),
    )
    write_bytes(path, content.getvalue())
