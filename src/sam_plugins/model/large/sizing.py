"""How large the tiles and their halo should be: by the objects, which a few windows tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.automatic import (
    object_regions,
    segment_embedding,
    segmenting_memory,
)
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.job import MANIFEST
from sam_plugins.model.large.mark import mark_of
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.plan import size_of

HALO_SHARE = 8
"""The halo is this part of the tile at least, unless it is given."""

_PLACES = (0.5, 0.2, 0.8)
"""Where along the diagonal objects are looked at."""

_ENOUGH = 100
"""So many objects tell; no further window is encoded."""

_OFTEN = 90  # percentile of the lengths of objects
_STEP = 32

Encode = Callable[[npt.NDArray[np.uint8]], ImageEmbedding]
"""From what the model sees of a picture or a window, (h, w, 3) uint8, to its embedding."""

Glance = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.integer]]
"""From what the model sees of a window, (h, w, 3) uint8, to a label image of it, in cells of any
size: how long its objects are, whatever they look like."""


class TileSize(NamedTuple):
    """Side of the tiles, and by how much they overlap on each side, in pixels."""

    tile: int
    halo: int


def tile_size(
    picture: LazyPicture,
    longest: int,
    look: Glance,
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
    look : callable
        Such as :func:`model_glance`; asked about three windows at most, about one where that holds
        many objects, and not where ``tile`` is given.
    tile, halo : int, optional
        What is given stays.
    """
    if tile is not None:
        return TileSize(tile, tile // HALO_SHARE if halo is None else halo)
    small = max(_STEP, longest // 2)
    lengths: list[float] = []
    for window in glanced_windows(picture.size_hw, longest):
        lengths += _lengths(look(picture.rgb(window)), window, picture.size_hw)
        if len(lengths) >= _ENOUGH:
            break
    usual = float(np.percentile(lengths, _OFTEN)) if lengths else 0.0
    if usual <= small // HALO_SHARE:
        return TileSize(small, small // HALO_SHARE if halo is None else halo)
    wide = min(max(-(-int(usual) // _STEP) * _STEP, longest // HALO_SHARE), longest // 4)
    return TileSize(longest, wide if halo is None else halo)


def model_glance(
    model: Model,
    mode: str,
    options: SegmentOptions,
    encode: Encode | None = None,
) -> Glance:
    """Return what tells how long objects are with a model.

    What its instance maps see is enough, and costs an encoding whatever the number of objects: to
    ask for each of hundreds takes minutes. In mode "grid" there may be no maps, and every object is
    asked for.

    Parameters
    ----------
    model : Model
    mode : {"auto", "grid"}
    options : SegmentOptions
    encode : callable, optional
        Returns the embedding of a window, from a cache say.
    """
    encoded = encode or partial(encode_rgb, model)

    def look(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.integer]:
        embedding = encoded(rgb)
        if mode != "auto":
            return segment_embedding(model, embedding, mode=mode, options=options).labels
        with segmenting_memory(embedding, mode):
            return object_regions(model, embedding, options.seeds)

    return look


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


def glanced_windows(size_hw: SizeHW, side: int) -> Iterator[Window]:
    """Yield the windows of a picture that tell how large its objects are.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    side : int
        Of the windows.

    Yields
    ------
    (slice, slice)
        Along the diagonal, the middle first; a small picture has one.
    """
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


def _lengths(labels: npt.NDArray[np.integer], window: Window, size_hw: SizeHW) -> Iterator[float]:
    """Yield the longer sides, in pixels, of the objects that the window does not cut."""
    shape = labels.shape
    down, across = (n / cells for n, cells in zip(size_of(window), shape, strict=True))
    for where in ndimage.find_objects(labels):
        if where is None:
            continue
        is_cut = any(
            (part.start == 0 and outer.start > 0) or (part.stop == cells and outer.stop < n)
            for part, cells, outer, n in zip(where, shape, window, size_hw, strict=True)
        )
        if not is_cut:
            rows, columns = where
            yield max((rows.stop - rows.start) * down, (columns.stop - columns.start) * across)


def _read(path: Path) -> dict[str, Any]:
    """Return a manifest, empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found
