"""Which window, at which level, a prompt asks for: arithmetic alone.

At level ``l`` a window is ``tile * 2**l`` pixels long and reduced to what the model takes. Windows
lie on a lattice of a quarter of their length, so that prompts close to each other share one. What
is asked for fills half of its window at most, and lies an eighth of it or more away from its edges:
one window answers, and there is no seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # A window asks where it is clicked: it does not wait for PyTorch.
    from sam_plugins.model.inference.coordinates import SizeHW
    from sam_plugins.model.io.windows import Window

_STEPS = 4
"""Windows begin at multiples of this part of their length."""

_FILLS = 0.5
"""What is asked for is no longer than this part of its window."""

_CLOSE = 1 / 32
"""A mask that comes as close to the edge of a window, in parts of its length, may be cut."""


class Extent(NamedTuple):
    """A part of a picture, in pixels: left, top, right, bottom."""

    x0: float
    y0: float
    x1: float
    y1: float

    def union(self, other: Extent) -> Extent:
        """Return the smallest part that holds both."""
        return Extent(
            min(self.x0, other.x0),
            min(self.y0, other.y0),
            max(self.x1, other.x1),
            max(self.y1, other.y1),
        )


class View(NamedTuple):
    """A window of the picture, ``(rows, columns)`` as numbers, and its level."""

    level: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def window(self) -> Window:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size_hw(self) -> SizeHW:
        """Height and width in pixels of the picture."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Zoom:
    """The windows of a picture at all levels.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    tile : int
        Length of the windows of level 0.

    Examples
    --------
    >>> zoom = Zoom((5000, 8000), 1000)
    >>> zoom.top
    3
    >>> zoom.view(Extent(4000, 2000, 4100, 2100))
    View(level=0, top=1500, left=3500, bottom=2500, right=4500)
    >>> zoom.view(Extent(0, 0, 1500, 100))
    View(level=2, top=0, left=0, bottom=4000, right=4000)
    """

    size_hw: SizeHW
    tile: int

    @property
    def top(self) -> int:
        """The level at which one window holds the whole picture."""
        level = 0
        while self.tile << level < max(self.size_hw):
            level += 1
        return level

    def view(self, extent: Extent, least_level: int = 0) -> View:
        """Return the window that something of a known extent asks for.

        Parameters
        ----------
        extent : Extent
        least_level : int
            Finer levels are not taken.
        """
        longer = max(extent.x1 - extent.x0, extent.y1 - extent.y0)
        level = min(least_level, self.top)
        while level < self.top and longer > _FILLS * (self.tile << level):
            level += 1
        side = self.tile << level
        rows = _placed((extent.y0 + extent.y1) / 2, side, self.size_hw[0])
        columns = _placed((extent.x0 + extent.x1) / 2, side, self.size_hw[1])
        return View(level, rows[0], columns[0], rows[1], columns[1])

    def around(self, view: View, extent: Extent) -> list[tuple[float, View]]:
        """Return the up to four windows of a level around something, and what each one counts.

        Parameters
        ----------
        view : View
            Says the level.
        extent : Extent
            Its centre lies between the centres of the windows.

        Returns
        -------
        list of (float, View)
            Bilinear weights, which add up to 1, the largest first: as something moves across the
            picture, windows come and go with a weight of 0.
        """
        side = self.tile << view.level
        along_y = _between((extent.y0 + extent.y1) / 2, side, self.size_hw[0])
        along_x = _between((extent.x0 + extent.x1) / 2, side, self.size_hw[1])
        found = [
            (down * across, View(view.level, top, left, bottom, right))
            for down, (top, bottom) in along_y
            for across, (left, right) in along_x
        ]
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def may_be_cut(self, view: View, extent: Extent) -> bool:
        """Return whether a mask comes so close to an edge of its window that it may go on."""
        height, width = self.size_hw
        margin = _CLOSE * (self.tile << view.level)
        return (
            (view.left > 0 and extent.x0 < view.left + margin)
            or (view.top > 0 and extent.y0 < view.top + margin)
            or (view.right < width and extent.x1 > view.right - margin)
            or (view.bottom < height and extent.y1 > view.bottom - margin)
        )

    def is_too_large(self, view: View, extent: Extent) -> bool:
        """Return whether a coarser level suits a mask better."""
        longer = max(extent.x1 - extent.x0, extent.y1 - extent.y0)
        return view.level < self.top and longer > 2 * _FILLS * 0.8 * (self.tile << view.level)


def _placed(centre: float, side: int, length: int) -> tuple[int, int]:
    """Return where a window of the lattice begins and ends that has something near its middle."""
    if side >= length:
        return 0, length
    step = side // _STEPS
    start = round((centre - side / 2) / step) * step
    start = max(0, min(start, length - side))
    return start, start + side


def _between(centre: float, side: int, length: int) -> list[tuple[float, tuple[int, int]]]:
    """Return the windows before and after a place along one axis, with their weights."""
    if side >= length:
        return [(1.0, (0, length))]
    last = length - side
    wanted = min(max(centre - side / 2, 0.0), float(last))
    step = side // _STEPS
    low = int(wanted // step) * step
    high = min(low + step, last)
    part = (wanted - low) / (high - low) if high > low else 0.0
    both = [(1 - part, (low, low + side)), (part, (high, high + side))]
    return [one for one in both if one[0] > 0]
