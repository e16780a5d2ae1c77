"""The semi-automatic stage: what a model is sure of is proposed, and people add the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.large.sizing import Encode
from sam_plugins.model.large.whole import segment_rgb

MIN_SCORE = 0.5
"""Score from which an object is proposed; see :func:`propose`."""

LEAST_JUDGED = 20
"""Proposals that people must have judged before :func:`calibrated_min_score` learns from them."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """An object that a model is sure of.

    Parameters
    ----------
    window_mask : WindowMask
        Pixels that no other proposal has.
    score : float
        0 to 1.
    point_xy : (float, float)
        The point that it was found from.
    """

    window_mask: WindowMask
    score: float
    point_xy: tuple[float, float]


def propose(
    model: Model,
    rgb: npt.NDArray[np.uint8],
    *,
    min_score: float = MIN_SCORE,
    options: SegmentOptions | None = None,
    encode: Encode | None = None,
) -> list[Proposal]:
    """Segment a picture and return the objects that are worth a person's look, best first.

    It is looked at as :func:`~sam_plugins.segment` does, as a whole or in windows.

    Parameters
    ----------
    model : Model
        Without an instance decoder it is asked with a grid of points.
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees of the picture.
    min_score : float
        0 to 1. The score is the model's predicted IoU, or its mean with how well the instance maps
        agree, where there are any. A false proposal costs a person a click, a missing one at least
        as much, so that a proposal pays from about even odds on.
    options : SegmentOptions, optional
        Of the automatic segmentation behind it.
    encode : callable, optional
        Returns the embedding of the picture or of a window, from a cache say.

    Raises
    ------
    ValueError
        If ``min_score`` lies outside 0 to 1.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must lie in [0, 1], got {min_score}")
    mode = "auto" if model.has_instance_decoder else "grid"
    found = segment_rgb(model, rgb, mode=mode, options=options, encode=encode, stacklevel=None)
    proposals = []
    for index, window in enumerate(ndimage.find_objects(found.labels, max_label=len(found))):
        if window is not None and found.scores[index] >= min_score:
            x, y = (float(value) for value in found.points_xy[index])
            mask = np.asarray(found.labels[window] == index + 1)
            proposals.append(Proposal(WindowMask(window, mask), float(found.scores[index]), (x, y)))
    return proposals


def calibrated_min_score(
    judged: Iterable[tuple[float, bool]], min_score: float = MIN_SCORE
) -> float:
    """Return from which score on proposals have paid, as far as people have judged some.

    A real object that is proposed saves a person a click at least, a false one costs a click. The
    score is chosen for which the clicks saved less the clicks spent are most; of equal ones the
    lowest. It never falls below ``min_score``: what was not proposed was not judged. What is no
    longer proposed is no longer judged either, so that every version of a model needs judgements of
    its own: with those of a weak one a better one would never propose.

    Parameters
    ----------
    judged : iterable of (float, bool)
        Score of each proposal of one model that a person looked at, and whether it was an object,
        if need be after a correction. Fewer than :data:`LEAST_JUDGED` change nothing.
    min_score : float
        From which they were proposed, 0 to 1.

    Returns
    -------
    float
        0 to 1; 1 where no proposal has paid.

    Examples
    --------
    >>> calibrated_min_score([(0.6, False)] * 15 + [(0.8, True)] * 10)
    0.8
    """
    known = sorted(((score, real) for score, real in judged if score >= min_score), reverse=True)
    if len(known) < LEAST_JUDGED:
        return min_score
    # Below the lowest judged score nothing is known: there, what was settled holds.
    best, best_gain, gain = 1.0, 0, 0
    for index, (score, real) in enumerate(known):
        gain += 1 if real else -1
        is_last = index + 1 == len(known)
        is_whole = is_last or known[index + 1][0] < score
        if is_whole and gain >= max(best_gain, 1):
            best, best_gain = (min_score if is_last else score), gain
    return best
