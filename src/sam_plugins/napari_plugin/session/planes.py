"""Where a picture lies in an array of any number of axes, and labels that are read so."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

LabelArray = npt.NDArray[np.integer[Any]]


class Window(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a plane, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns to index a plane with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def union(self, other: Window) -> Window:
        """Return the smallest window around both; one without pixels does not count.

        Examples
        --------
        >>> Window(0, 0, 2, 2).union(Window(5, 1, 6, 3))
        Window(top=0, left=0, bottom=6, right=3)
        """
        if 0 in self.shape:
            return other
        if 0 in other.shape:
            return self
        return Window(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def within(self, size_hw: tuple[int, int]) -> Window:
        """Return the part that lies in a plane of so many rows and columns."""
        top, bottom = (min(max(0, value), size_hw[0]) for value in (self.top, self.bottom))
        left, right = (min(max(0, value), size_hw[1]) for value in (self.left, self.right))
        return Window(top, left, max(top, bottom), max(left, right))


@dataclass(frozen=True)
class Plane:
    """A picture in an array: the axes of its rows and columns, and where the others stand.

    Parameters
    ----------
    axes : (int, int)
        Axis of the rows and of the columns; the first may be the larger one.
    at : tuple of int
        Index on each of the other axes, in order.

    Raises
    ------
    ValueError
        If the axes are not two different ones of ``len(at) + 2``.

    Examples
    --------
    >>> Plane((1, 2), (5,)).index()
    (5, slice(None, None, None), slice(None, None, None))
    """

    axes: tuple[int, int] = (0, 1)
    at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the axes."""
        if self.axes[0] == self.axes[1] or not all(0 <= axis < self.ndim for axis in self.axes):
            raise ValueError(
                f"axes must be two different ones of {self.ndim} axes, got {self.axes}"
            )

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return len(self.at) + 2

    def size_hw(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return rows and columns of this plane in an array of some shape.

        Raises
        ------
        ValueError
            If the array has another number of axes, or ends before this plane.
        """
        fixed = [length for axis, length in enumerate(shape) if axis not in self.axes]
        if len(shape) != self.ndim or any(
            not 0 <= at < length for at, length in zip(self.at, fixed, strict=True)
        ):
            raise ValueError(
                f"a plane with axes {self.axes} at {self.at} must lie in the array, got the shape "
                f"{tuple(shape)}"
            )
        return shape[self.axes[0]], shape[self.axes[1]]

    def index(self, window: Window | None = None) -> tuple[int | slice, ...]:
        """Return what an array is indexed with to get the plane, rows and columns in its order."""
        chosen: dict[int, int | slice] = dict(zip(self.axes, _slices(window), strict=True))
        others = iter(self.at)
        return tuple(chosen[axis] if axis in chosen else next(others) for axis in range(self.ndim))

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that the plane stands still on, in order."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.axes)

    def index_on(self, axis: int) -> int:
        """Return where it stands on one of the other axes.

        Raises
        ------
        ValueError
            If it extends along this axis.
        """
        if axis not in self.other_axes:
            raise ValueError(
                f"axis must be one that the plane stands still on, {self.other_axes}, got {axis}"
            )
        return self.at[self.other_axes.index(axis)]

    def moved(self, axis: int, index: int) -> Plane:
        """Return the parallel plane at another index on one of the other axes.

        Examples
        --------
        >>> Plane((2, 3), (0, 5)).moved(1, 8)
        Plane(axes=(2, 3), at=(0, 8))
        """
        self.index_on(axis)
        pairs = zip(self.other_axes, self.at, strict=True)
        return Plane(self.axes, tuple(index if other == axis else at for other, at in pairs))

    def take(self, array: Any, window: Window | None = None) -> npt.NDArray[Any]:  # noqa: ANN401
        """Return this plane of an array, or a window of it; of NumPy arrays a view."""
        part = np.asarray(array[self.index(window)])
        return part.T if self.axes[0] > self.axes[1] else part

    def put(self, array: Any, window: Window, values: npt.NDArray[Any]) -> None:  # noqa: ANN401
        """Write a window of this plane."""
        array[self.index(window)] = values.T if self.axes[0] > self.axes[1] else values


def _slices(window: Window | None) -> tuple[slice, slice]:
    """Return the rows and columns of a window, all where there is none."""
    return (slice(None), slice(None)) if window is None else window.slices


class LabelCanvas(Protocol):
    """An array of labels as a session sees it: it may be on a disk, or in a layer."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integer type of the labels."""

    def read(self, plane: Plane, window: Window | None = None) -> LabelArray:
        """Return a copy of a plane, or of a window of it."""

    def write(self, plane: Plane, window: Window, values: LabelArray) -> None:
        """Replace a window of a plane."""

    def together(self) -> AbstractContextManager[None]:
        """Return a block within which many planes are written, which may be drawn at its end."""


class ArrayCanvas:
    """Labels in an array that can be written to piece by piece (NumPy, Zarr).

    Parameters
    ----------
    array : ndarray or alike, integer
        Written to in place.

    Raises
    ------
    TypeError
        If its values are no integers.
    """

    def __init__(self, array: Any) -> None:  # noqa: ANN401
        if np.dtype(array.dtype).kind not in "iu":
            raise TypeError(f"labels must be integers, got {array.dtype}")
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(length) for length in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integer type of the labels."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def read(self, plane: Plane, window: Window | None = None) -> LabelArray:
        """Return a copy of a plane, or of a window of it."""
        return np.array(plane.take(self.array, window), order="C")

    def write(self, plane: Plane, window: Window, values: LabelArray) -> None:
        """Replace a window of a plane."""
        plane.put(self.array, window, values)

    def together(self) -> AbstractContextManager[None]:
        """Return a block within which many planes are written."""
        return nullcontext()
