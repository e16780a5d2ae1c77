"""How sure the model is of a whole picture, so that the least sure can be annotated first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def task_score(scores: npt.NDArray[np.floating]) -> float:
    """Return how good a picture's objects are expected to be, 0 to 1.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of its objects.

    Returns
    -------
    float
        Their mean; 0 without objects, so that such a picture is looked at first.

    Examples
    --------
    >>> task_score(np.array([0.5, 1.0]))
    0.75
    """
    return float(np.mean(scores)) if len(scores) else 0.0
