"""Parts of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]
"""Rows and columns."""


def tight_window(mask: NDArray[Any]) -> Window | None:
    """Return the rows and columns that hold a mask.

    Parameters
    ----------
    mask : ndarray of shape (H, W)
        What is not 0 is inside.

    Returns
    -------
    (slice, slice) or None
        None for an empty mask.

    Examples
    --------
    >>> tight_window(np.array([[0, 0, 0, 0], [0, 1, 0, 1]]))
    (slice(1, 2, None), slice(1, 4, None))
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
