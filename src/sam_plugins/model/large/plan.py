"""Which tiles a picture is cut into: arithmetic alone.

The *cores* of the tiles divide the picture: every pixel lies in one. What the model sees of a tile
is its *window*: the core and a halo around it, so that what lies across a border is seen whole by
one tile at least, as long as it reaches no farther than the halo. All windows are of one size, also
at the edges of the picture, where they are moved inwards: the model sees all parts of a picture at
one scale. What is left at an edge and is no wider than a halo belongs to the last tile, whose
window holds it: a tile of its own would show the same pixels again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.io.windows import Window


@dataclass(frozen=True)
class Tile:
    """One tile of a plan.

    Parameters
    ----------
    index : int
        Its place in the plan, row by row.
    core, window : (slice, slice)
        Rows and columns of the picture: its own part, and what the model sees.
    """

    index: int
    core: Window
    window: Window

    @property
    def window_hw(self) -> SizeHW:
        """Height and width of the window."""
        return size_of(self.window)


@dataclass(frozen=True)
class TilePlan:
    """A picture divided into tiles.

    Parameters
    ----------
    size_hw : (int, int)
        Of the picture.
    tile : int
        Side of the windows in pixels; smaller only where the picture is.
    halo : int
        Pixels of a window around its core, on each side; less than half of the tile.

    Raises
    ------
    TypeError, ValueError
        If a number is none, or the halo leaves no core.

    Examples
    --------
    >>> plan = TilePlan((100, 250), tile=100, halo=10)
    >>> len(plan), plan.core
    (3, 80)
    >>> plan[1].core, plan[1].window
    ((slice(0, 100, None), slice(80, 160, None)), (slice(0, 100, None), slice(70, 170, None)))
    """

    size_hw: SizeHW
    tile: int
    halo: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, length in zip(("height", "width"), self.size_hw, strict=True):
            count(name, length)
        count("tile", self.tile)
        if not 0 <= 2 * self.halo < self.tile:
            raise ValueError(
                f"halo must be 0 or more and less than half of the tile of {self.tile} pixels, "
                f"got {self.halo}"
            )

    @property
    def core(self) -> int:
        """Side of the cores; the last ones may be smaller, or larger by a halo at most.

        Where the picture is no larger than a tile, the only core is the picture.
        """
        return self.tile - 2 * self.halo

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        rows, columns = (
            1 if length <= self.tile else -(-(length - self.halo) // self.core)
            for length in self.size_hw
        )
        return rows, columns

    def __len__(self) -> int:
        """Return the number of tiles."""
        rows, columns = self.grid
        return rows * columns

    def __iter__(self) -> Iterator[Tile]:
        """Yield the tiles, row by row."""
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> Tile:
        """Return a tile.

        Raises
        ------
        IndexError
            If there is no such tile.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"tile must be 0 to {len(self) - 1}, got {index}")
        places = divmod(index, self.grid[1])
        cores, windows = zip(
            *(self._along(place, n) for place, n in zip(places, self.size_hw, strict=True)),
            strict=True,
        )
        return Tile(index, (cores[0], cores[1]), (windows[0], windows[1]))

    def touching(self, window: Window) -> list[int]:
        """Return the tiles whose windows share pixels with a part of the picture, in order."""
        rows, columns = (
            [
                place
                for place in range(number)
                if _overlap(self._along(place, length)[1], part) is not None
            ]
            for number, length, part in zip(self.grid, self.size_hw, window, strict=True)
        )
        return [row * self.grid[1] + column for row in rows for column in columns]

    def near(self, tile: Tile) -> Window:
        """Return the core of a tile and a quarter of the halo around it.

        What does not reach into it is another tile's. Without the quarter, an object between two
        tiles could be neither's, for they do not see it quite alike.
        """
        rows, columns = (
            slice(
                max(window.start, core.start - self.halo // 4),
                min(window.stop, core.stop + self.halo // 4),
            )
            for core, window in zip(tile.core, tile.window, strict=True)
        )
        return rows, columns

    def later_neighbours(self, index: int) -> list[int]:
        """Return the tiles after one whose windows share pixels with its own: pairs come once."""
        return [other for other in self.touching(self[index].window) if other > index]

    def _along(self, place: int, length: int) -> tuple[slice, slice]:
        """Return core and window along one axis."""
        is_last = length <= self.tile or length - self.halo <= (place + 1) * self.core
        core = slice(place * self.core, length if is_last else (place + 1) * self.core)
        start = max(0, min(core.start - self.halo, length - self.tile))
        return core, slice(start, min(start + self.tile, length))


def size_of(window: Window) -> SizeHW:
    """Return height and width of a part of a picture."""
    rows, columns = window
    return rows.stop - rows.start, columns.stop - columns.start


def shared(first: Window, second: Window) -> Window | None:
    """Return the part of a picture that two parts share, None for none."""
    rows, columns = (_overlap(one, other) for one, other in zip(first, second, strict=True))
    return None if rows is None or columns is None else (rows, columns)


def within(part: Window, window: Window) -> Window:
    """Return where a part of the picture lies in an array of one of its windows.

    Examples
    --------
    >>> within((slice(12, 15), slice(3, 4)), (slice(10, 20), slice(0, 9)))
    (slice(2, 5, None), slice(3, 4, None))
    """
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, window, strict=True)
    )
    return rows, columns


def _overlap(first: slice, second: slice) -> slice | None:
    """Return what two ranges share, None for nothing."""
    start, stop = max(first.start, second.start), min(first.stop, second.stop)
    return slice(start, stop) if start < stop else None
