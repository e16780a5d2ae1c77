"""An opened image: its pixels, not read yet where the format allows, and what their axes mean."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import operator
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import tifffile

from sam_plugins.errors import MemoryLimitError, UnreadableImageError, UnusableImageError
from sam_plugins.model.io.arrays import SliceableArray

Finish: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
Where: TypeAlias = SupportsIndex | Mapping[str, SupportsIndex] | None
"""A plane of a stack: its number, or one for each axis."""

DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
    tifffile.TiffFileError,  # no ValueError in tifffile of 2025
)
"""What decoders raise on broken files (Pillow, for one, raises ``SyntaxError``)."""


class ImageWarning(UserWarning):
    """A file holds more than what is read of it."""


@dataclass(frozen=True)
class Picture:
    """One plane of an image.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), (H, W, S) or (C, H, W)
        As in the file: any number type, contrast untouched.
    channel_axis : int or None
        2 for the samples of a colour picture, 0 for channels that were recorded one by one.
    channel_names : tuple of str
        Names of the channels where the file gives them.
    """

    pixels: npt.NDArray[Any]
    channel_axis: int | None = None
    channel_names: tuple[str, ...] = ()

    @property
    def default_channels(self) -> tuple[int, ...] | None:
        """Channels to show when nobody chose: separate channels are stretched one by one."""
        return default_channels(self.channel_axis, self.pixels.shape)


def default_channels(channel_axis: int | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the channels of a plane to show when nobody chose; None for those of its kind."""
    if channel_axis == 0 and shape[0] <= 3:
        return tuple(range(shape[0]))
    return None


@dataclass(frozen=True)
class OpenImage:
    """An image file that was opened; use it in a ``with`` block.

    Parameters
    ----------
    path : Path
        The file or folder.
    pixels : array
        All pixels; read when indexed, where the format allows.
    axes : str
        One letter for each axis of ``pixels``: Y, X, S (samples of a colour), C (channels), Z, T,
        or other letters for stacks of unknown meaning.
    channel_names : tuple of str
        Names along C where the file gives them.
    finish : callable
        Turns a plane as stored into a plane as meant (palettes, inverted greys).
    close : callable
        Closes the file.
    levels : int
        How many levels its pyramid has; 1 for no pyramid.
    is_turned : bool
        Whether ``finish`` turns or mirrors planes, so that they can only be read whole.
    """

    path: Path
    pixels: SliceableArray
    axes: str
    channel_names: tuple[str, ...] = ()
    finish: Finish = field(default=lambda plane: plane)
    close: Callable[[], None] = field(default=lambda: None)
    levels: int = 1
    is_turned: bool = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    @property
    def stack_axes(self) -> dict[str, int]:
        """Axes, with their lengths, along which one plane has to be chosen."""
        beside = "YXS" if "S" in self.axes else "YXC"
        return {
            axis: int(length)
            for axis, length in zip(self.axes, self.pixels.shape, strict=True)
            if axis not in beside
        }

    def axes_with_channels(self) -> str | None:
        """Return the axes with the one stack axis as channels, if it may be one.

        That is so where no axis holds channels or colours, and the letter of the only stack axis
        longer than 1 says neither depth nor time.
        """
        long_axes = [axis for axis, length in self.stack_axes.items() if length > 1]
        if {"C", "S"} & set(self.axes) or len(long_axes) != 1 or long_axes[0] in "ZT":
            return None
        return self.axes.replace(long_axes[0], "C")

    def plane(self, where: Where = None) -> Picture:
        """Read one plane.

        Parameters
        ----------
        where : int or mapping of axis letter to int, optional
            Index of the plane along each axis of a stack, such as ``{"Z": 5, "T": 0}``; a plain
            number where at most one axis is longer than 1. Axes of length 1 need no index.

        Returns
        -------
        Picture
            With the axes (Y, X), (Y, X, S) or (C, Y, X).

        Raises
        ------
        UnusableImageError
            If no index is given for a stack, or one that does not exist.
        UnreadableImageError
            If the file breaks while it is read.
        MemoryLimitError
            If the plane does not fit into memory.
        TypeError
            If ``where`` is no whole number and no mapping of axis letters to such numbers.
        """
        indices = self.plane_index(where)
        index = tuple(indices.get(axis, slice(None)) for axis in self.axes)
        kept = [axis for axis in self.axes if axis not in indices]
        order = [kept.index(axis) for axis in ("C", "Y", "X", "S") if axis in kept]
        with decoding(self.path):
            plane = self.finish(np.asarray(self.pixels[index]).transpose(order))
        if "C" in kept:
            names = self.channel_names if len(self.channel_names) == plane.shape[0] else ()
            return Picture(plane[0]) if plane.shape[0] == 1 else Picture(plane, 0, names)
        if plane.ndim == 3:
            # one sample, or grey with alpha
            return Picture(plane[..., 0]) if plane.shape[2] <= 2 else Picture(plane, 2)
        return Picture(plane)

    def plane_index(self, where: Where) -> dict[str, int]:
        """Return a checked index for each stack axis; arguments and errors of :meth:`plane`."""
        stack = self.stack_axes
        long_axes = [axis for axis, length in stack.items() if length > 1]
        given = _numbers(where)
        if isinstance(given, int):
            choices = long_axes or list(stack)[:1]  # all of length 1: 0 is what there is
            if len(choices) != 1:
                raise UnusableImageError(
                    f"{self.path}: one plane number is enough only for one stack axis, "
                    f"got {self._named(choices)}; name the axes, such as Z=0,T=0"
                )
            given = {choices[0]: given}
        for axis, index in given.items():
            if axis not in stack:
                raise UnusableImageError(
                    f"{self.path} has no stack axis {axis!r}; it has {self._named(list(stack))}"
                )
            if not 0 <= index < stack[axis]:
                raise UnusableImageError(
                    f"{self.path} has the planes 0 to {stack[axis] - 1} along {axis}, got {index}"
                )
        missing = [axis for axis in long_axes if axis not in given]
        if missing:
            raise UnusableImageError(
                f"{self.path} is a stack along {self._named(missing)}; "
                f"choose one plane, such as {','.join(f'{axis}=0' for axis in missing)}"
            )
        return {axis: given.get(axis, 0) for axis in stack}

    def _named(self, axes: list[str]) -> str:
        """Return axes with their lengths in words."""
        stack = self.stack_axes
        return ", ".join(f"{axis} ({stack[axis]} planes)" for axis in axes) or "none"


def _numbers(where: Where) -> int | dict[str, int]:
    """Return which plane is meant in plain numbers and capital letters, or say what it must be."""
    with contextlib.suppress(TypeError):
        if isinstance(where, Mapping):
            return {_letter(axis): _whole(index) for axis, index in where.items()}
        return {} if where is None else _whole(where)
    raise TypeError(
        "plane must be a whole number, or a mapping of axis letters to whole numbers such as "
        f'{{"Z": 5, "T": 0}}, got {where!r}'
    )


def _letter(axis: object) -> str:
    """Return the name of an axis as a capital letter."""
    if not isinstance(axis, str):
        raise TypeError
    return axis.upper()


def _whole(value: object) -> int:
    """Return a whole number of any type; True is none."""
    if isinstance(value, bool | np.bool_):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]


def checked_level(level: SupportsIndex) -> int:
    """Return the level of a pyramid as a plain number.

    Raises
    ------
    TypeError
        If it is no whole number.
    """
    with contextlib.suppress(TypeError):
        return _whole(level)
    raise TypeError(f"level must be a whole number, 0 for the finest, got {level!r}")


def require_level(level: int, count: int, path: Path) -> None:
    """Refuse a level that a picture does not have.

    Raises
    ------
    UnusableImageError
        With those that there are.
    """
    if 0 <= level < count:
        return
    if count == 1:
        raise UnusableImageError(
            f"{path} is no pyramid: it has level 0 alone, got level {level}; leave the level out"
        )
    raise UnusableImageError(f"{path} is a pyramid with the levels 0 to {count - 1}, got {level}")


def bytes_of(path: Path, content: bytes | None) -> BinaryIO:
    """Return a file to read from: what is in memory, or else what the path names."""
    return path.open("rb") if content is None else io.BytesIO(content)


def checked_axes(axes: str, shape: tuple[int, ...], path: Path) -> str:
    """Return axis letters that fit the shape, each used once, Y and X among them.

    Raises
    ------
    UnusableImageError
        If the letters cannot describe a picture of that shape.
    """
    axes = axes.upper()
    if len(axes) != len(shape) or not {"Y", "X"} <= set(axes):
        raise UnusableImageError(
            f"{path} has the shape {shape} with the axes {axes!r}; expected one letter per axis, "
            "with Y and X among them; give them, such as axes='ZYX'"
        )
    unused = iter("ABDEFGHIJKLMNOPQRUVW")
    unique: list[str] = []
    for axis in axes:
        # unknown axes may repeat a letter (tifffile writes QQYX): give each its own
        if axis in unique and axis not in "YXSC":
            axis = next(letter for letter in unused if letter not in axes and letter not in unique)
        elif axis in unique:
            raise UnusableImageError(f"{path} has the axis {axis} twice in {axes!r}; correct axes=")
        unique.append(axis)
    return "".join(unique)


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Translate whatever a decoder raises into an error that names the file and the remedy.

    What tifffile logs meanwhile is not shown: the error says what is wrong.
    """
    try:
        with _quiet_tifffile():
            yield
    except (UnreadableImageError, UnusableImageError, MemoryLimitError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise UnreadableImageError(f"cannot read {path}: no such file; check the name") from error
    except PermissionError as error:
        raise UnreadableImageError(
            f"cannot read {path}: you may not read it; ask its owner for permission"
        ) from error
    except MemoryError as error:
        raise MemoryLimitError(
            f"cannot read {path}: it does not fit into memory; "
            "read a coarser level of the pyramid, one plane, or a crop saved as its own file"
        ) from error
    except DECODING_ERRORS as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise UnreadableImageError(
                f"cannot read {path}: the name is longer than a name can be; check it"
            ) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableImageError(
            f"cannot read {path}: {reason}; the file may be cut short or damaged, copy it again"
        ) from error


@contextlib.contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """Drop tifffile's log records, which come from threads of its own and of Zarr, too."""
    logger = logging.getLogger("tifffile")

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)
