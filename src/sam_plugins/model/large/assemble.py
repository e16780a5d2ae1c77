"""From the results of all tiles to the labels of the picture, one core at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.label_image import Overlap
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.coarse import CoarseLabels, Overlaps, only, winners
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.join import (
    Contact,
    Joined,
    JoinOptions,
    TileObjects,
    contacts_of,
    join,
    objects_of_tile,
)
from sam_plugins.model.large.plan import Tile, TilePlan, shared, size_of, within
from sam_plugins.model.large.tiles import TileResult, read_tile, read_tile_if_done

_TILES_IN_MEMORY = 8

ReadTile = Callable[[int], TileResult]
"""Returns the result of a tile by its index."""


class Merged(NamedTuple):
    """What the reduced picture changed about the objects of a picture.

    ``before`` has the objects as tiles saw them, ``numbers`` of shape (n + 1,) the number that each
    of these has now, and ``labels`` the objects of the reduced picture that won, with numbers.
    """

    before: Joined
    numbers: npt.NDArray[np.uint32]
    labels: CoarseLabels


class Numbering(NamedTuple):
    """The objects of the picture, and which objects of tiles they are.

    ``offsets[i]`` is the place of label 1 of tile ``i`` among the objects of all tiles; ``joined``
    says what these are drawn as; ``points_xy`` of shape (n, 2) are the points of the objects.
    ``coarse`` is what the reduced picture changed.
    """

    offsets: npt.NDArray[np.int64]
    joined: Joined
    points_xy: npt.NDArray[np.float32]
    coarse: Merged | None = None


def number_objects(job: TileJob) -> Numbering:
    """Join the objects of all tiles, two tiles in memory at a time.

    Parameters
    ----------
    job : TileJob
        Tiles that are not done have no objects: what is done can be looked at before the rest is.
    """
    read = lru_cache(_TILES_IN_MEMORY)(partial(read_tile_if_done, job))
    numbering = join_tiles(job.plan, read, job.join)
    return numbering if job.coarse is None else _with_coarse(job, numbering, read)


def join_tiles(plan: TilePlan, read: ReadTile, options: JoinOptions) -> Numbering:
    """Join the objects of all tiles.

    Parameters
    ----------
    plan : TilePlan
    read : callable
        Returns the result of a tile by its index.
    options : JoinOptions
    """
    counts = [len(read(index).scores) for index in range(len(plan))]
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    tiles: list[TileObjects] = []
    points: list[npt.NDArray[np.float32]] = [np.zeros((0, 2), np.float32)]
    contacts: list[Contact] = []
    for tile in plan:
        mine = read(tile.index)
        points.append(mine.points_xy)
        tiles.append(objects_of_tile(mine.labels, mine.scores, tile, plan.size_hw))
        if not counts[tile.index]:
            continue
        for other in plan.later_neighbours(tile.index):
            if counts[other]:
                contacts += contacts_of(
                    (tile, mine.labels, int(offsets[tile.index])),
                    (plan[other], read(other).labels, int(offsets[other])),
                )
    joined = join(tiles, contacts, options)
    return Numbering(offsets, joined, np.concatenate(points)[joined.sources])


def _with_coarse(job: TileJob, numbering: Numbering, read: ReadTile) -> Numbering:
    """Give objects of tiles that are one in the reduced picture one number."""
    assert job.coarse is not None
    seen, joined = read_tile(job.coarse_path), numbering.joined
    coarse, overlaps = CoarseLabels(seen.labels, job.plan.size_hw), Overlaps()
    for tile in job.plan:
        first = int(numbering.offsets[tile.index])
        result = read(tile.index)
        numbers = np.append(0, joined.numbers[first : first + len(result.scores)])
        overlaps.add(numbers[result.labels], coarse.nearest(tile.window))
    won = winners(coarse, overlaps, job.coarse)
    owners = np.arange(len(joined.scores) + 1)
    scores, points_xy = joined.scores.copy(), numbering.points_xy.copy()
    for label, pieces in won:
        owners[list(pieces)] = pieces[0]
        scores[pieces[0] - 1] = seen.scores[label - 1]
        points_xy[pieces[0] - 1] = seen.points_xy[label - 1]
    kept, numbers = np.unique(owners, return_inverse=True)  # 0 is among them, and stays
    left = kept[1:] - 1
    areas = np.zeros(len(kept), np.int64)
    np.add.at(areas, numbers[1:], joined.areas)
    return Numbering(
        numbering.offsets,
        Joined(numbers[joined.numbers], scores[left], joined.sources[left], areas[1:]),
        points_xy[left],
        Merged(
            joined,
            numbers.astype(np.uint32),
            only(coarse, [(label, int(numbers[pieces[0]])) for label, pieces in won]),
        ),
    )


def paint_core(job: TileJob, index: int, numbering: Numbering) -> npt.NDArray[np.uint32]:
    """Return the labels of the core of one tile, numbered as in the picture.

    Better or smaller objects own the pixels of overlaps, as within a tile. Of pieces of one object,
    the one that the core's own tile saw is drawn.

    Parameters
    ----------
    job : TileJob
    index : int
        Of the tile.
    numbering : Numbering
        Of :func:`number_objects`.
    """
    read = partial(read_tile_if_done, job)
    if numbering.coarse is None:
        return paint_joined(job.plan, read, index, numbering, job.options.overlap)
    core, merged = job.plan[index].core, numbering.coarse
    before = numbering._replace(joined=merged.before, coarse=None)
    whole = merged.numbers[paint_joined(job.plan, read, index, before, job.options.overlap)]
    for number, mask in merged.labels.smooth(core):
        whole[mask & (whole == 0)] = number
    return whole


def paint_joined(
    plan: TilePlan,
    read: ReadTile,
    index: int,
    numbering: Numbering,
    overlap: Overlap = "score",
) -> npt.NDArray[np.uint32]:
    """Return the labels of a core, as :func:`paint_core` does, from results that are at hand.

    Parameters
    ----------
    plan : TilePlan
    read : callable
        Returns the result of a tile by its index.
    index : int
        Of the tile.
    numbering : Numbering
        Of :func:`join_tiles`.
    overlap : {"score", "smaller"}
        Who owns the pixels of an overlap: the better object, or the smaller one.
    """
    core = plan[index].core

    def parts_of(tile: int) -> list[_Part]:
        first, result = int(numbering.offsets[tile]), read(tile)
        numbers = numbering.joined.numbers[first : first + len(result.scores)]
        return _parts(plan[tile], result, core, numbers)

    parts = parts_of(index)
    is_own = {part.number for part in parts}
    for other in plan.touching(core):
        if other != index:
            parts += [part for part in parts_of(other) if part.number not in is_own]
    joined = numbering.joined
    ranks = joined.areas if overlap == "smaller" else -joined.scores
    painted = np.zeros(size_of(core), np.uint32)
    for part in sorted(parts, key=lambda part: (ranks[part.number - 1], part.number)):
        there = painted[part.window]
        there[part.mask & (there == 0)] = part.number
    return painted


class _Part(NamedTuple):
    """What a tile saw of an object within a core; the window counts from the core's corner."""

    number: int
    window: Window
    mask: npt.NDArray[np.bool_]


def _parts(
    tile: Tile, result: TileResult, core: Window, numbers: npt.NDArray[np.int64]
) -> list[_Part]:
    """Return what is drawn in a core of the objects of one tile.

    ``numbers`` are those of the tile's objects in the picture.
    """
    part = shared(core, tile.window)
    assert part is not None
    labels = result.labels[within(part, tile.window)]
    top, left = (slice_.start for slice_ in within(part, core))
    parts = []
    for place, where in enumerate(ndimage.find_objects(labels, len(numbers))):
        number = int(numbers[place])
        if where is None or not number:
            continue
        rows, columns = where
        window = (
            slice(rows.start + top, rows.stop + top),
            slice(columns.start + left, columns.stop + left),
        )
        parts.append(_Part(number, window, labels[where] == place + 1))
    return parts
