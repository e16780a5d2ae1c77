"""Pictures that a model sees so much reduced that tiles are the better way."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.networks.config import Preprocessing

PAYS_FROM = 2.0
"""Pictures longer than the longest input of a model by this factor are segmented by tiles."""

STRIP = 8.0
"""Pictures longer than wide by this factor lose most small objects as soon as they are reduced."""


SMALL = 64.0
"""Objects that cover no more pixels of a model's input are lost in part: see
:func:`shows_small_objects`."""

_SOME = 10  # a few specks say nothing of a picture


class ReducedImageWarning(UserWarning):
    """The model sees a picture so much reduced that it may miss objects."""


def needs_tiles(size_hw: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Return whether a picture is so much larger than the model's input that tiles pay."""
    return max(size_hw) > PAYS_FROM * preprocessing.max_long_side


def is_reduced_strip(size_hw: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Return whether a picture is long, narrow, and reduced for the model.

    Discs of 16 pixels in 30 x 1,000 pixels are all found by the shipped model, which sees them as
    they are; in 30 x 2,000 pixels, which it sees at half the size, 1 of 50.

    Examples
    --------
    >>> [is_reduced_strip(size, Preprocessing()) for size in ((30, 1000), (30, 2000), (500, 2000))]
    [False, True, False]
    """
    longest = max(size_hw)
    return longest > preprocessing.max_long_side and longest > STRIP * min(size_hw)


def is_reduced(size_hw: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Return whether a model sees fewer pixels than a picture has."""
    return max(size_hw) > preprocessing.max_long_side


def shows_small_objects(labels: npt.NDArray[np.integer[Any]], pixel_area: float) -> bool:
    """Return whether the objects of a picture are mostly so small that a model misses many.

    Small are the objects that hold half of what is found: photographs have hundreds of specks too,
    which hold next to nothing beside the objects. Of 600 discs in 500 x 2,000 pixels, which are
    seen at about half the size, the shipped model finds 299 where 16 pixels across, 447 where 20,
    and its maps see all from 24 on.

    Parameters
    ----------
    labels : ndarray of shape (h, w), integer
        Objects as found, or as the instance maps see them; 0 is background.
    pixel_area : float
        Pixels of the model's input that a pixel of ``labels`` covers.

    Examples
    --------
    >>> dots = np.zeros((8, 80), np.int32)
    >>> dots[2:4, 2::8], dots[2:4, 3::8] = np.arange(1, 11), np.arange(1, 11)
    >>> shows_small_objects(dots, 16), shows_small_objects(dots, 36)
    (True, False)
    """
    areas = np.sort(np.bincount(labels.ravel())[1:] * pixel_area)
    areas = areas[areas > 0]
    small = areas[areas <= SMALL]
    return len(small) >= _SOME and bool(small.sum() >= areas.sum() / 2)


def warn_reduced(
    size_hw: tuple[int, int], preprocessing: Preprocessing, *, stacklevel: int = 2
) -> None:
    """Warn that a picture is seen much reduced, and name the tiled way."""
    height, width = size_hw
    scale = preprocessing.max_long_side / max(size_hw)
    seen = f"{max(1, round(height * scale))} x {max(1, round(width * scale))}"
    warnings.warn(
        f"the model sees this picture of {height} x {width} pixels reduced to {seen}, and may miss "
        "most of its small objects; segment it by tiles with segment_large",
        ReducedImageWarning,
        stacklevel=stacklevel + 1,
    )
