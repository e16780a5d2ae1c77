"""What the thresholds of the mask generator refused, and a warning where nothing is left."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass
class Refusals:
    """Count the masks of one picture that each threshold lets pass.

    Parameters
    ----------
    candidates, confident, stable : int
        Masks in all; of these, with a predicted IoU that is high enough; of these, stable ones.
    best_iou, best_stability : float
        Of all masks, and of the confident ones; minus infinity for none.
    """

    candidates: int = 0
    confident: int = 0
    stable: int = 0
    best_iou: float = -math.inf
    best_stability: float = -math.inf

    def add(
        self,
        predicted_ious: npt.NDArray[np.float32],
        stability: npt.NDArray[np.float32],
        is_stable: npt.NDArray[np.bool_],
    ) -> None:
        """Count some more masks.

        Parameters
        ----------
        predicted_ious : ndarray of shape (n,)
            Of all of them.
        stability, is_stable : ndarray of shape (m,)
            Of those with a predicted IoU that is high enough; NaN for empty masks.
        """
        self.candidates += len(predicted_ious)
        self.confident += len(stability)
        self.stable += int(np.count_nonzero(is_stable))
        self.best_iou = max(self.best_iou, _largest(predicted_ious))
        self.best_stability = max(self.best_stability, _largest(stability))

    def warn(self, pred_iou_thresh: float, stability_score_thresh: float, stacklevel: int) -> None:
        """Say which threshold refused all that was there; nothing where some masks passed."""
        if self.stable or not self.candidates:
            return
        if self.confident:
            name, threshold, best = (
                "stability_score_thresh", stability_score_thresh, self.best_stability,
            )  # fmt: skip
            rest = (
                "" if self.confident == self.candidates else " whose predicted IoU is high enough"
            )
            refused = f"all {self.confident} masks{rest}; the most stable of them has"
        else:
            name, threshold, best = "pred_iou_thresh", pred_iou_thresh, self.best_iou
            refused = f"all {self.candidates} masks; the best of them has"
        warnings.warn(
            f"no mask is left: {name}={threshold:g} refused {refused} {best:.3f}; for such masks "
            f"set {name}={_lower(best):g} (SAM's thresholds are too strict for some models, "
            "such as 'default')"
            if math.isfinite(best)
            else f"no mask is left: all {self.candidates} are empty; other points may find some",
            stacklevel=stacklevel + 1,
        )


def _largest(values: npt.NDArray[np.float32]) -> float:
    """Return the largest value that is a number, minus infinity for none."""
    return float(np.fmax.reduce(values, initial=-math.inf))


def _lower(best: float) -> float:
    """Return a round threshold that more than the very best pass: 0.8 for 0.93, 0.5 for 0.61."""
    return max(0.0, math.floor(10 * best - 0.5) / 10)
