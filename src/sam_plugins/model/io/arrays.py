"""What arrays that are read piece by piece have in common."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class SliceableArray(Protocol):
    """What a lazily read array (Zarr, Dask, a memory map) shares with a NumPy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type of the values."""

    def __getitem__(self, where: Any, /) -> Any:  # noqa: ANN401
        """Return a part, something that ``numpy.asarray`` takes."""
