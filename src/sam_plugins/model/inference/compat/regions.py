"""Holes filled and islands dropped by their area in pixels, as segment_anything's generator does.

That differs from :mod:`sam_plugins.model.inference.postprocess`: background at the border of the
picture counts as a hole here, and diagonal neighbours are connected in both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import WindowMask

BoolArray = npt.NDArray[np.bool_]

_EIGHT = np.ones((3, 3), bool)


class CleanedMask(NamedTuple):
    """A mask within a window of the picture, and whether it had small regions."""

    drawn: WindowMask
    changed: bool


def remove_small_regions(drawn: WindowMask, size_hw: SizeHW, min_area: int) -> CleanedMask:
    """Fill holes and drop islands of fewer pixels; the largest island always stays.

    Parameters
    ----------
    drawn : WindowMask
        The mask within a window of the picture.
    size_hw : (int, int)
        Height and width of the picture.
    min_area : int
        Pixels.
    """
    drawn, sides = _with_margin(drawn, size_hw, min_area)
    holes = small_regions(~drawn.mask, min_area, sides)
    filled = drawn.mask | holes
    islands = small_regions(filled, min_area)
    kept = filled & ~islands
    if not kept.any() and islands.any():
        kept = largest_region(filled)
    changed = bool(holes.any() or islands.any())
    return CleanedMask(WindowMask(drawn.window, kept), changed)


def _with_margin(
    drawn: WindowMask, size_hw: SizeHW, min_area: int
) -> tuple[WindowMask, tuple[bool, bool, bool, bool]]:
    """Widen a window by a pixel, and tell at which of its sides more background follows.

    The sides are top, bottom, left and right. What follows must be no small region itself: else
    the window becomes the whole picture.
    """
    (rows, columns), mask = drawn
    height, width = size_hw
    top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, height)
    left, right = max(columns.start - 1, 0), min(columns.stop + 1, width)
    beyond = (top * width, (height - bottom) * width, left * height, (width - right) * height)
    if any(0 < area < min_area for area in beyond):
        top, bottom, left, right = 0, height, 0, width
        beyond = (0, 0, 0, 0)
    wide = np.zeros((bottom - top, right - left), bool)
    wide[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = mask
    window = (slice(top, bottom), slice(left, right))
    above, below, before, after = (area > 0 for area in beyond)
    return WindowMask(window, wide), (above, below, before, after)


def small_regions(
    inside: BoolArray,
    min_area: float,
    open_sides: tuple[bool, bool, bool, bool] = (False, False, False, False),
) -> BoolArray:
    """Return connected regions of fewer pixels that do not go on beyond an open side."""
    regions, count = ndimage.label(inside, structure=_EIGHT)
    is_small = np.bincount(regions.ravel(), minlength=count + 1) < min_area
    is_small[0] = False
    edges = (regions[0], regions[-1], regions[:, 0], regions[:, -1])
    for is_open, edge in zip(open_sides, edges, strict=True):
        if is_open:
            is_small[edge] = False
    small: BoolArray = is_small[regions]
    return small


def largest_region(inside: BoolArray) -> BoolArray:
    """Return the largest connected region, of equal ones the first."""
    regions, _ = ndimage.label(inside, structure=_EIGHT)
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    largest: BoolArray = regions == areas.argmax()
    return largest
