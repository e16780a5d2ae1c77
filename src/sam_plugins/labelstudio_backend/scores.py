"""How good a picture's predictions are expected to be, so that the worst can be annotated first.

The mean score of the objects knows nothing of what the model did not find. So the score of a
picture is a logistic function of what the model says about it, fitted to the panoptic quality
(Kirillov et al. 2019) that the shipped model reaches on pictures with ground truth.
``scripts/fit_task_scores.py`` makes the numbers and measures what they are worth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FLOOR, *WEIGHTS = (-9.055, 1.597, 4.569, 3.95, 1.525)
"""Of :class:`Evidence`, in its order; the first is what there is without any."""


class Evidence(NamedTuple):
    """What the model says of the objects that it found in a picture, each from 0 to 1.

    Attributes
    ----------
    mean : float
        Mean score of the objects; 0 without any.
    low : float
        The score that a tenth of them stays below.
    coverage : float
        How far what the instance decoder takes for foreground and the objects agree: their IoU.
    certainty : float
        How sure the instance decoder is of its foreground: 0 where it says one half everywhere.
    """

    mean: float
    low: float
    coverage: float
    certainty: float


def evidence_of(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    foreground: npt.NDArray[np.float32],
) -> Evidence:
    """Return what is known of a picture.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of the objects.
    labels : ndarray of shape (H, W)
        0 is background.
    foreground : ndarray of shape (h, w)
        What the instance decoder sees, on a grid of its own, 0 to 1.
    """
    places = (
        ((np.arange(cells) + 0.5) / cells * side).astype(int)
        for cells, side in zip(foreground.shape, labels.shape, strict=True)
    )
    drawn = labels[np.ix_(*places)] > 0
    believed = foreground > 0.5
    union = np.count_nonzero(drawn | believed)
    return Evidence(
        float(np.mean(scores)) if len(scores) else 0.0,
        float(np.quantile(scores, 0.1)) if len(scores) else 0.0,
        np.count_nonzero(drawn & believed) / union if union else 1.0,
        float(np.abs(2 * foreground - 1).mean()),
    )


def picture_score(evidence: Evidence) -> float:
    """Return how good the objects of a picture are expected to be, 0 to 1.

    It is 0 without objects, so that such a picture is looked at first.

    Examples
    --------
    >>> sure = picture_score(Evidence(0.95, 0.9, 0.95, 0.95))
    >>> unsure = picture_score(Evidence(0.7, 0.4, 0.5, 0.6))
    >>> 0 < unsure < sure < 1
    True
    """
    if evidence.mean <= 0:
        return 0.0
    value = FLOOR + sum(w * x for w, x in zip(WEIGHTS, evidence, strict=True))
    return 1 / (1 + math.exp(-value))
