"""Where a picture comes from: plain values that can go to another process, which opens it there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import Channels, Limits, channel_indices
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.images import open_image
from sam_plugins.model.io.lazy_plane import LazyPlane
from sam_plugins.model.io.opened import OpenImage
from sam_plugins.model.large.picture import LazyPicture

_SAMPLED_WHOLE = 1 << 27
"""Pictures of more pixels are sampled for their contrast on a coarser level of their pyramid."""

_ENOUGH_PIXELS = 1 << 20
"""A level of so many pixels tells the contrast."""

_DIGESTED_PER_AXIS = 64


@dataclass(frozen=True)
class FileSource:
    """One plane of an image file, opened where it is needed.

    Parameters
    ----------
    path : str
        See :func:`~sam_plugins.model.io.images.open_image`.
    plane : mapping of axis letter to int, or int, optional
        Which plane of a stack.
    channels : sequence or mapping of colour to int or str, optional
        Which channels to show, by number or name.
    limits : (float, float) or sequence of (float, float), optional
        As for :func:`~sam_plugins.to_rgb`.
    level : int
        Level of a pyramid, 0 is the finest.
    axes : str, optional
        Letters of the axes where the file tells none or wrong ones.
    """

    path: str
    plane: Mapping[str, int] | int | None = None
    channels: Mapping[str, int | str] | Sequence[int | str] | None = None
    limits: Limits | Sequence[Limits] | None = None
    level: int = 0
    axes: str | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[LazyPicture]:
        """Open the picture for a ``with`` block.

        Raises
        ------
        UnreadableImageError
            If the file cannot be decoded.
        UnusableImageError
            If it holds no such plane or channels, or limits are wrong.
        """
        with open_image(self.path, level=self.level, axes=self.axes) as image:
            plane = LazyPlane(image, self.plane)
            try:
                channels: Channels | None = (
                    plane.default_channels
                    if self.channels is None
                    else channel_indices(self.channels, plane.channel_names)
                )
                picture = LazyPicture(
                    plane.pixels, channels, self.limits, channel_axis=plane.channel_axis
                )
            except ValueError as error:
                raise UnusableImageError(f"{self.path}: {error}") from error
            with contextlib.ExitStack() as levels, self._sample(image, picture) as sample:
                coarser = cache(partial(self._coarser, image.levels, levels))
                yield replace(picture, sample=sample, coarser=coarser)

    def at(self, axis: str, index: int) -> FileSource:
        """Return the source of one slice of the stack."""
        plane = dict(self.plane) if isinstance(self.plane, Mapping) else {}
        return replace(self, plane={**plane, axis: index})

    def slices(self, axis: str) -> int:
        """Return the number of slices along an axis of a stack.

        Raises
        ------
        UnusableImageError
            If there is no such axis.
        """
        with open_image(self.path, level=self.level, axes=self.axes) as image:
            lengths = image.stack_axes
            if axis not in lengths:
                raise UnusableImageError(
                    f"{self.path} has no stack axis {axis!r}; it has {', '.join(lengths) or 'none'}"
                )
            return lengths[axis]

    def _coarser(self, levels: int, opened: contextlib.ExitStack) -> list[SliceableArray]:
        """Open the coarser levels of the pyramid, for as long as the picture is open."""
        return [
            LazyPlane(
                opened.enter_context(open_image(self.path, level=level, axes=self.axes)), self.plane
            ).pixels
            for level in range(self.level + 1, levels)
        ]

    def described(self) -> dict[str, Any]:
        """Return what tells this source from another, for a manifest: values for JSON."""
        path = Path(self.path)
        return {**asdict(self), "path": str(path.resolve()), "files": _state_of(path)}

    @contextlib.contextmanager
    def _sample(self, image: OpenImage, picture: LazyPicture) -> Iterator[SliceableArray | None]:
        """Yield a coarser level to estimate the contrast on, None where the picture will do."""
        height, width = picture.size_hw
        if self.limits is not None or height * width <= _SAMPLED_WHOLE:
            yield None
            return
        for level in range(image.levels - 1, self.level, -1):
            with open_image(self.path, level=level, axes=self.axes) as coarse:
                pixels = LazyPlane(coarse, self.plane).pixels
                if np.prod(pixels.shape, dtype=np.int64) >= _ENOUGH_PIXELS:
                    yield pixels
                    return
        yield None


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A picture that is an array: NumPy, Zarr, Dask, a memory map.

    Parameters are those of :class:`~sam_plugins.model.large.picture.LazyPicture`. It goes to
    another process only if the array does.
    """

    array: SliceableArray | npt.NDArray[Any]
    channels: Channels | None = None
    limits: Limits | Sequence[Limits] | None = None
    channel_axis: int | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[LazyPicture]:
        """Yield the picture."""
        yield LazyPicture(self.array, self.channels, self.limits, self.channel_axis)

    def at(self, axis: str, index: int) -> ArraySource:
        """Return the source of one slice of a stack, whose first axis the slices go along."""
        del axis
        return replace(self, array=_Slice(self.array, index))

    def slices(self, axis: str) -> int:
        """Return the number of slices of a stack.

        Raises
        ------
        UnusableImageError
            If the array is no stack.
        """
        del axis
        expected = 3 if self.channel_axis is None else 4
        if len(self.array.shape) != expected:
            raise UnusableImageError(
                f"expected a stack with {expected} axes, slices first, got shape "
                f"{tuple(self.array.shape)}"
            )
        return int(self.array.shape[0])

    def described(self) -> dict[str, Any]:
        """Return what tells this source from another, for a manifest: values for JSON."""
        return {
            "shape": list(self.array.shape),
            "dtype": str(self.array.dtype),
            "channels": repr(self.channels),
            "limits": repr(self.limits),
            "channel_axis": self.channel_axis,
            "digest_of_sample": self._digest_of_sample,
        }

    @cached_property
    def _digest_of_sample(self) -> str:
        """Digest of a regular grid of the values; touches every chunk, so it is taken once."""
        step = tuple(slice(None, None, max(1, n // _DIGESTED_PER_AXIS)) for n in self.array.shape)
        sample = np.asarray(self.array[step])
        return hashlib.blake2b(sample.tobytes(), digest_size=16).hexdigest()


def _state_of(path: Path) -> str:
    """Return a digest of the size and the time of the last change of a file, or all in a folder.

    No file is read. Labels within an OME-Zarr are left out: they may be the results.
    """
    if path.is_file():
        files = [path]
    else:
        files = []
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name != "labels")
            files += [Path(folder, name) for name in sorted(names)]
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            state = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class _Slice:
    """One slice of a stack, read window by window."""

    def __init__(self, stack: SliceableArray | npt.NDArray[Any], index: int) -> None:
        self._stack, self._index = stack, index

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self._stack.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the values."""
        return self._stack.dtype

    def __getitem__(self, where: slice | tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a part."""
        parts = where if isinstance(where, tuple) else (where,)
        stack: SliceableArray = self._stack
        return np.asarray(stack[(self._index, *parts)])


Source = FileSource | ArraySource
