"""How large the tiles and their halo should be: by the objects, which a few windows tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import Window
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.large.job import MANIFEST, Finder
from sam_plugins.model.large.mark import mark_of
from sam_plugins.model.large.picture import LazyPicture

HALO_SHARE = 8
"""The halo is this part of the tile at least, unless it is given."""

_PLACES = (0.5, 0.2, 0.8)
"""Where along the diagonal objects are looked at."""

_ENOUGH = 100
"""So many objects tell; each has to be asked for, and where they are dense there are many more."""

_OFTEN = 90  # percentile of the lengths of objects
_STEP = 32


class TileSize(NamedTuple):
    """Side of the tiles, and by how much they overlap on each side, in pixels."""

    tile: int
    halo: int


def tile_size(
    picture: LazyPicture,
    longest: int,
    find: Finder,
    *,
    tile: int | None = None,
    halo: int | None = None,
) -> TileSize:
    """Return the tiles that suit the objects of a picture.

    Objects that are shorter than the halo of small tiles get these, which show them enlarged. For
    larger ones the tiles are twice as large, and the halo as long as nine objects of ten: a model
    draws what the edge of a window cuts in pieces, and cannot be relied on to draw them alike.

    Parameters
    ----------
    picture : LazyPicture
    longest : int
        The model's longest input: the larger tiles.
    find : callable
        Finds objects in a window; asked for three windows at most, for one where that holds many,
        and not where ``tile`` is given.
    tile, halo : int, optional
        What is given stays.
    """
    if tile is not None:
        return TileSize(tile, tile // HALO_SHARE if halo is None else halo)
    small = max(_STEP, longest // 2)
    lengths: list[int] = []
    for window in _windows(picture.size_hw, longest):
        lengths += _lengths(find(picture.rgb(window), None), window, picture.size_hw)
        if len(lengths) >= _ENOUGH:
            break
    usual = float(np.percentile(lengths, _OFTEN)) if lengths else 0.0
    if usual <= small // HALO_SHARE:
        return TileSize(small, small // HALO_SHARE if halo is None else halo)
    wide = min(max(-(-int(usual) // _STEP) * _STEP, longest // HALO_SHARE), longest // 4)
    return TileSize(longest, wide if halo is None else halo)


def earlier_size(output: Path, folder: Path) -> TileSize | None:
    """Return the tiles of a run that was begun or finished, None for none: nobody looks twice.

    Parameters
    ----------
    output, folder : Path
        Of the labels, and of the results of tiles.
    """
    described = mark_of(output) or _read(folder / MANIFEST)
    try:
        plan = described["plan"]
        return TileSize(int(plan["tile"]), int(plan["halo"]))
    except (KeyError, TypeError, ValueError):
        return None


def _windows(size_hw: SizeHW, side: int) -> Iterator[Window]:
    """Yield windows along the diagonal; a small picture has one."""
    seen = set()
    for place in _PLACES:
        starts = tuple(max(0, int(place * length - side / 2)) for length in size_hw)
        fitting = tuple(
            max(0, min(start, n - side)) for start, n in zip(starts, size_hw, strict=True)
        )
        if fitting not in seen:
            seen.add(fitting)
            rows, columns = (
                slice(start, min(start + side, n))
                for start, n in zip(fitting, size_hw, strict=True)
            )
            yield rows, columns


def _lengths(found: Segmentation, window: Window, size_hw: SizeHW) -> Iterator[int]:
    """Yield the longer sides of the objects that the window does not cut."""
    for where in ndimage.find_objects(found.labels):
        if where is None:
            continue
        is_cut = any(
            (part.start == 0 and outer.start > 0)
            or (part.stop == outer.stop - outer.start and outer.stop < n)
            for part, outer, n in zip(where, window, size_hw, strict=True)
        )
        if not is_cut:
            yield max(part.stop - part.start for part in where)


def _read(path: Path) -> dict[str, Any]:
    """Return a manifest, empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found
