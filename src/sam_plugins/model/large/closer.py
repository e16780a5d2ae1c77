"""Whether a picture is better looked at as a whole or in windows: by how large its objects are.

What the model sees of a picture longer than its input is reduced, and small objects are lost. In
windows they are seen as they are, or enlarged to the size that the model knows. Where objects are
large, windows divide them, and the whole picture is better.

Measured with version 7 of the shipped model on the eight of its train and val pictures that are
reduced and hold small objects, mSA as a whole and in windows: bubbles in a column (1200 x 460)
0.01, 0.15, 0.29, 0.03 and 0.31 to 0.09, 0.44, 0.48, 0.19 and 0.52; islets in tissue (1600 x 1199)
0.74 to 0.79; neurons (1200 x 600, 1100 x 800) 0.50 to 0.53 and 0.56 both. Pictures that the model
does not see reduced are another matter: enlarged further, some came out better by 0.1 and others
worse by as much, and nothing told which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.preprocess import resized_size_hw
from sam_plugins.model.inference.reduction import is_reduced, needs_tiles
from sam_plugins.model.inference.segment_options import SegmentOptions, usual_options
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.object_sizes import areas_of, usual_side
from sam_plugins.model.large.plan import TilePlan, shared, size_of
from sam_plugins.model.large.sizing import HALO_SHARE, Encode, glanced_windows, model_glance
from sam_plugins.model.networks.config import Preprocessing

USUAL_SIDE = 20.0
"""Side in cells, the root of the area, to which windows enlarge usual objects."""

LEAST_ENLARGEMENT = 1.3
"""What windows would enlarge by less is looked at as a whole: objects larger than 16 cells came out
worse in windows."""

_NARROW = 64
"""Pixels of the input: in a strip that is narrower the model sees little that it knows."""

_SOME, _ENOUGH = 10, 100  # objects: a few say nothing of a picture
_SPECK = 4.0  # side in cells
_SEEN_TWICE = 0.25  # of a window: one of which more was seen already tells nothing new


def may_look_closer(model: Model, size_hw: SizeHW) -> bool:
    """Return whether a picture of a size may be looked at in windows: its objects decide."""
    return model.has_instance_decoder and is_reduced(size_hw, model.preprocessing)


def is_narrow(size_hw: SizeHW, preprocessing: Preprocessing) -> bool:
    """Return whether a picture is seen as so narrow a strip that only windows of it tell much.

    Examples
    --------
    >>> is_narrow((60, 2100), Preprocessing()), is_narrow((200, 2100), Preprocessing())
    (True, False)
    """
    return min(resized_size_hw(size_hw, preprocessing)) < _NARROW


def closer_plan(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    options: SegmentOptions | None = None,
    encode: Encode | None = None,
) -> TilePlan | None:
    """Return the windows in which a reduced picture of small objects is better looked at.

    What the model's instance maps see of the whole picture tells how large objects are. Where that
    is next to nothing, or specks, or the picture a narrow strip, they are looked for in a window or
    a few that are not reduced.

    Parameters
    ----------
    model : Model
        With an instance decoder.
    rgb : ndarray of shape (H, W, 3), uint8
        The whole picture.
    options : SegmentOptions, optional
        Of which the seeds count.
    encode : callable, optional
        Returns the embedding of the picture or of a window, from a cache say.

    Returns
    -------
    TilePlan or None
        None where the model does not see the picture reduced, where its objects are as large as the
        model knows them, or where there are few.
    """
    seen, size_hw = model.preprocessing, (int(rgb.shape[0]), int(rgb.shape[1]))
    if not is_reduced(size_hw, seen):
        return None
    look = model_glance(model, "auto", options or usual_options(model, "auto"), encode)
    longest = max(size_hw)
    whole_scale = seen.max_long_side / longest
    areas = np.zeros(0) if is_narrow(size_hw, seen) else areas_of(look(rgb)) / whole_scale**2
    if len(areas) < _SOME or math.sqrt(np.median(areas)) < _SPECK / whole_scale:
        areas = np.zeros(0)
        for window in _apart(size_hw, seen.max_long_side):
            areas = np.append(areas, areas_of(look(np.ascontiguousarray(rgb[window]))))
            if len(areas) >= _ENOUGH:
                break
    if len(areas) < _SOME:
        return None
    wanted = min(USUAL_SIDE / usual_side(areas), seen.max_enlargement)
    # Of a longer picture, windows no smaller than its tiles on disk: they would be too many.
    least = seen.max_long_side // (2 if needs_tiles(size_hw, seen) else 4)
    tile = max(math.ceil(seen.min_long_side / wanted), least)
    scale = max(resized_size_hw((tile, tile), seen)) / tile
    if min(scale, wanted) < LEAST_ENLARGEMENT * whole_scale or tile >= longest:
        return None
    return TilePlan(size_hw, tile, tile // HALO_SHARE)


def _apart(size_hw: SizeHW, side: int) -> Iterator[Window]:
    """Yield windows that share little, so that no object counts twice."""
    earlier: list[Window] = []
    for window in glanced_windows(size_hw, side):
        parts = [part for one in earlier if (part := shared(one, window)) is not None]
        if all(
            math.prod(size_of(part)) <= _SEEN_TWICE * math.prod(size_of(window)) for part in parts
        ):
            earlier.append(window)
            yield window
