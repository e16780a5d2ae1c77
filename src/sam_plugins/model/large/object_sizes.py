"""How large the objects of a picture are for the model, by what its instance maps see of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def areas_of(regions: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the areas in cells of what the instance maps see.

    Parameters
    ----------
    regions : ndarray of shape (h, w), integer
        See :func:`~sam_plugins.model.inference.automatic.object_regions`.
    """
    areas = np.bincount(regions.ravel())[1:]
    return areas[areas > 0].astype(np.float64)


def usual_side(areas: npt.NDArray[np.float64]) -> float:
    """Return the side of the objects that hold half of the area: specks hold next to nothing.

    Examples
    --------
    >>> usual_side(np.array([1.0, 1.0, 1.0, 1.0, 16.0]))
    4.0
    """
    rising = np.sort(areas)
    middle = np.searchsorted(rising.cumsum(), rising.sum() / 2)
    return math.sqrt(rising[middle])
