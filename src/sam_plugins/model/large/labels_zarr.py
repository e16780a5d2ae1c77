"""Labels of any size on disk: chunks and a pyramid, as OME-Zarr (NGFF 0.4) has them.

A level is every second pixel of the finer one, in rows and columns: labels cannot be averaged. So
the centre of the first pixel is the same on all levels, and there is no translation between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from sam_plugins.model.io.atomic import output_error
from sam_plugins.model.io.windows import Window

_VERSION = "0.4"
_SMALLEST = 1024
"""The coarsest level is no longer than this."""


@dataclass(frozen=True)
class LabelPyramid:
    """Labels in a folder, to be written chunk by chunk, the finest level first.

    Parameters
    ----------
    path : Path
        The folder, by convention ``NAME.zarr``.
    shape : tuple of int
        (H, W), or (Z, H, W) of a stack, whose slices are never thinned out.
    chunk : int
        Side of the chunks.
    """

    path: Path
    shape: tuple[int, ...]
    chunk: int

    def create(self, *, name: str = "", voxel_size: tuple[float, ...] | None = None) -> None:
        """Create the arrays and their metadata; nothing is written twice where they exist.

        Parameters
        ----------
        name : str
            Of the labels.
        voxel_size : tuple of float, optional
            Along each axis, without a unit; 1 by default.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        try:
            group = zarr.open_group(self.path, mode="a", zarr_format=2)
            for level in range(self.levels):
                if str(level) not in group:
                    self._create_level(group, level)
            group.attrs.update(self._metadata(name, voxel_size or (1.0,) * len(self.shape)))
        except OSError as error:
            raise output_error(self.path, error) from error

    @property
    def levels(self) -> int:
        """How many levels there are, the finest among them."""
        level = 0
        while max(self.level_shape(level)[-2:]) > _SMALLEST:
            level += 1
        return level + 1

    def level_shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of a level."""
        factor = 2**level
        return (*self.shape[:-2], *(-(-length // factor) for length in self.shape[-2:]))

    def array(self, level: int = 0) -> Any:  # noqa: ANN401
        """Return a level as a Zarr array to read and to write."""
        return zarr.open_array(self.path / str(level), mode="r+")

    def write(self, where: tuple[int | slice, ...], labels: npt.NDArray[np.integer]) -> None:
        """Write a part of the finest level, made of whole chunks.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self._put(self.array(), where, labels)

    def coarsen(self, level: int) -> Iterator[tuple[int, int]]:
        """Make a level of the finer one, a chunk after the other; yields chunks done and in all."""
        finer, coarse = self.array(level - 1), self.array(level)
        parts = [
            (before, window)
            for before in np.ndindex(*self.shape[:-2])
            for window in _chunks(self.level_shape(level)[-2:], self.chunk)
        ]
        for done, (before, window) in enumerate(parts):
            yield done, len(parts)
            rows, columns = (slice(2 * part.start, 2 * part.stop) for part in window)
            values = np.asarray(finer[(*before, rows, columns)])[::2, ::2]
            self._put(coarse, (*before, *window), values)

    def _put(
        self,
        array: Any,  # noqa: ANN401
        where: tuple[int | slice, ...],
        values: npt.NDArray[np.integer],
    ) -> None:
        """Write a part of an array."""
        try:
            array[where] = values.astype(array.dtype, copy=False)
        except OSError as error:
            raise output_error(self.path, error) from error

    def _create_level(self, group: zarr.Group, level: int) -> None:
        """Create the array of one level."""
        shape = self.level_shape(level)
        group.create_array(
            str(level),
            shape=shape,
            chunks=(*(1,) * (len(shape) - 2), *(min(self.chunk, n) for n in shape[-2:])),
            dtype=np.uint32,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )

    def _metadata(self, name: str, voxel_size: tuple[float, ...]) -> dict[str, Any]:
        """Return the attributes of the group."""
        datasets = []
        for level in range(self.levels):
            factors = (*(1,) * (len(self.shape) - 2), 2**level, 2**level)
            scale = [float(size * f) for size, f in zip(voxel_size, factors, strict=True)]
            datasets.append(
                {
                    "path": str(level),
                    "coordinateTransformations": [{"type": "scale", "scale": scale}],
                }
            )
        axes = [{"name": axis, "type": "space"} for axis in "zyx"[-len(self.shape) :]]
        return {
            "multiscales": [
                {
                    "version": _VERSION,
                    "name": name,
                    "axes": axes,
                    "datasets": datasets,
                    "type": "every second pixel",
                }
            ],
            "image-label": {"version": _VERSION},
        }


def _chunks(size_hw: tuple[int, ...], chunk: int) -> Iterator[Window]:
    """Yield the parts of a plane that its chunks are."""
    height, width = size_hw
    for top in range(0, height, chunk):
        for left in range(0, width, chunk):
            yield (
                slice(top, min(top + chunk, height)),
                slice(left, min(left + chunk, width)),
            )
