"""Pictures that are stored turned or mirrored, with a tag that says how to turn them back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ORIENTATION_TAG = 0x0112
"""The tag of EXIF and TIFF: 1 is upright, 2 to 8 are mirrored or turned."""

# (transpose, flip rows, flip columns), done in this order
_STEPS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright(pixels: npt.NDArray[Any], orientation: int, *, row_axis: int = 0) -> npt.NDArray[Any]:
    """Return a picture as it is meant to be seen.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), (H, W, S) or (C, H, W)
        As stored.
    orientation : int
        Value of the tag; what the standard does not know counts as upright.
    row_axis : int
        Axis of the rows; the columns are the next one.

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]]), 6)
    array([[3, 1],
           [4, 2]])
    """
    is_transposed, flips_rows, flips_columns = _STEPS.get(orientation, (False, False, False))
    if is_transposed:
        pixels = np.swapaxes(pixels, row_axis, row_axis + 1)
    flipped = (row_axis,) * flips_rows + (row_axis + 1,) * flips_columns
    return np.flip(pixels, flipped) if flipped else pixels
