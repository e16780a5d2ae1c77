"""The task ``edges``: masks of a grid as an edge detector, beside Sobel's and Canny's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation import edge_scores
from sam_plugins.model.evaluation.bootstrap import FloatArray, Statistic
from sam_plugins.model.evaluation.edge_maps import (
    GRID_POINTS,
    canny_edges,
    label_edges,
    sobel_edges,
)
from sam_plugins.model.evaluation.edge_matching import TOLERANCE
from sam_plugins.model.evaluation.gallery import Panels
from sam_plugins.model.evaluation.summary import SetStatistics, summarise_statistics
from sam_plugins.model.evaluation.task_report import Line, Plot
from sam_plugins.model.evaluation.tasks.task import MODEL, Conclusion, Measured, Scores
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.labelled import LabelledImage

EDGE_FIGURES: Mapping[str, str] = {"ods": "ODS", "ois": "OIS", "ap": "AP", "r50": "R50"}

FLOORS: Mapping[str, Callable[[NDArray[Any]], NDArray[np.float32]]] = {
    "Canny": canny_edges,
    "Sobel": sobel_edges,
}

_RESAMPLES = 500  # each looks for the best threshold again


@dataclass(frozen=True, eq=False)
class EdgeScore:
    """The edges of one picture.

    Attributes
    ----------
    set_name, image_id : str
    n_true : int
        Objects.
    counts : EdgeCounts
    """

    set_name: str
    image_id: str
    n_true: int
    counts: edge_scores.EdgeCounts


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges by one method, and by Sobel's and Canny's.

    Parameters
    ----------
    detector : callable
        From a picture as it comes from a file to edge strengths in [0, 1], shape (H, W).
    thresholds : int
        At how many the strengths are cut.
    settings_of : mapping
        What the detector was set to, for the report.
    """

    detector: Callable[[NDArray[Any]], NDArray[np.float32]]
    thresholds: int = edge_scores.THRESHOLDS
    points_per_side: int = GRID_POINTS
    name: str = "edges"
    title: str = "Edges (BSDS protocol)"
    chosen_by: str = "best F-measure"
    needs_complete: bool = True
    score_types: Sequence[type] = (EdgeScore, edge_scores.EdgeCounts)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Grid, thresholds and tolerance."""
        return {
            "points_per_side": self.points_per_side,
            "thresholds": self.thresholds,
            "tolerance": TOLERANCE,
        }

    def measure(self, image: LabelledImage) -> Measured:
        """Detect the edges of one picture and match them with the annotators'."""
        drawings = [label_edges(one) for one in (image.labels, *image.other_labels)]
        counted = None if image.ignore is None else ~image.ignore
        found = {
            method: detect(image.image)
            for method, detect in {MODEL: self.detector, **FLOORS}.items()
        }
        n_true = int(np.count_nonzero(np.unique(image.labels)))
        scores = {
            method: [
                EdgeScore(
                    image.set_name,
                    image.id,
                    n_true,
                    edge_scores.count_edges(
                        strength, drawings, thresholds=self.thresholds, counted=counted
                    ),
                )
            ]
            for method, strength in found.items()
        }
        best, _ = edge_scores.best_f(scores[MODEL][0].counts.table)
        return Measured(scores, best, lambda: _panels(image, drawings, found))

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Compute the figures of each set from the counts of its pictures."""
        summaries = {
            method: summarise_statistics(
                {name: _statistics(of_set) for name, of_set in _by_set(own).items()},
                EDGE_FIGURES,
                resamples=_RESAMPLES,
                seed=seed,
            )
            for method, own in scores.items()
        }
        return Conclusion(
            summaries,
            [_row(method, score) for method, own in scores.items() for score in own],
            plots=[_plot(scores)],
        )


def _by_set(scores: Sequence[EdgeScore]) -> dict[str, list[EdgeScore]]:
    """Return scores by set."""
    by_set: dict[str, list[EdgeScore]] = {}
    for score in scores:
        by_set.setdefault(score.set_name, []).append(score)
    return by_set


def _statistics(scores: Sequence[EdgeScore]) -> SetStatistics:
    """Return the figures of one set for any weights of its pictures."""
    counts = np.stack([score.counts.table for score in scores])  # (n, T, 4)
    best = edge_scores.best_counts(counts)
    figures: dict[str, Statistic] = {
        "ods": _OfSum(counts, lambda total: edge_scores.best_f(total)[0]),
        "ois": _OfSum(best[:, None], lambda total: edge_scores.best_f(total)[0]),
        "ap": _OfSum(counts, edge_scores.average_precision),
        "r50": _OfSum(counts, edge_scores.recall_at_half),
    }
    return SetStatistics(figures, len(scores), sum(score.n_true for score in scores))


@dataclass(frozen=True, eq=False)
class _OfSum:
    """A figure of the summed counts of pictures, (n, T, 4)."""

    counts: FloatArray
    figure: Callable[[FloatArray], float]

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Return the figure of each draw, (r, n) to (r,)."""
        totals = np.tensordot(weights, self.counts, axes=1)
        return np.array([self.figure(total) for total in totals])


def _row(method: str, score: EdgeScore) -> dict[str, Any]:
    """Return one picture's own figures."""
    table = score.counts.table
    f, place = edge_scores.best_f(table)
    levels = score.counts.thresholds
    precision, recall = edge_scores.precision_recall(table)
    each = np.arange(len(levels))
    return {
        "set": score.set_name,
        "image": score.image_id,
        "method": method,
        "objects": score.n_true,
        "best_f": f,
        "threshold": float(np.interp(place, each, levels)),
        "precision": float(np.interp(place, each, precision)),
        "recall": float(np.interp(place, each, recall)),
        "ap": edge_scores.average_precision(table),
    }


def _plot(scores: Scores) -> Plot:
    """Return precision over recall of all pictures, a line for each method."""
    lines = []
    for method, own in scores.items():
        if not own:
            continue
        total = np.sum([score.counts.table for score in own], axis=0)
        precision, recall = edge_scores.precision_recall(total)
        some = total[:, 3] > 0
        lines.append(
            Line(
                method,
                tuple(recall[some].tolist()),
                tuple(precision[some].tolist()),
                is_floor=method != MODEL,
            )
        )
    return Plot("precision_recall", "Edges", "recall", "precision", tuple(lines), iso_f=True)


def _panels(
    image: LabelledImage,
    drawings: Sequence[NDArray[np.bool_]],
    found: Mapping[str, NDArray[np.float32]],
) -> Panels:
    """Return the picture, what people drew, and what each method found."""
    drawn = np.mean(drawings, axis=0).astype(np.float32)
    return [
        ("picture", to_rgb(image.image)),
        ("drawn by people", _dark_on_white(drawn)),
        *((method, _dark_on_white(strength)) for method, strength in found.items()),
    ]


def _dark_on_white(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return strengths as a grey picture, lines thick enough to be seen when reduced."""
    from scipy import ndimage

    width = 1 + max(strength.shape) // 480
    shown = ndimage.maximum_filter(strength, width + 1) if width > 1 else strength
    grey = np.rint(255 * (1 - np.clip(shown, 0, 1))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
