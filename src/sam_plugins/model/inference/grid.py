"""A regular grid of points, for models that do not know by themselves where objects are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW


def grid_points(size_hw: SizeHW, points_per_side: int) -> npt.NDArray[np.float32]:
    """Return points that cover a picture evenly, in rows.

    Parameters
    ----------
    size_hw : (int, int)
        Height and width of the picture.
    points_per_side : int
        Points along the longer side; the shorter one gets as many as keep the distance, and neither
        more than it has pixels.

    Returns
    -------
    ndarray of shape (n, 2), float32
        Pixels (x, y), half a distance away from the border.

    Raises
    ------
    ValueError
        If ``points_per_side`` is below 1.

    Examples
    --------
    >>> grid_points((2, 4), 4).tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]
    """
    if points_per_side < 1:
        raise ValueError(f"points_per_side must be 1 or more, got {points_per_side}")
    height, width = size_hw
    distance = max(height, width) / points_per_side
    y, x = (
        (np.arange(count) + 0.5) * (side / count) - 0.5
        for side in size_hw
        for count in [min(side, max(1, round(side / distance)))]
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
