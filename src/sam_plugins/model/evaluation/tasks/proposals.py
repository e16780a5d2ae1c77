"""The task ``proposals``: average recall at 10, 100 and 1000 masks, overall and by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.automatic import FLOOR_NAME
from sam_plugins.model.evaluation.coco_matching import AREA_RANGES, IOU_THRESHOLDS
from sam_plugins.model.evaluation.gallery import Panels, painted, with_labels
from sam_plugins.model.evaluation.proposals import (
    COUNTS,
    GRID_POINTS,
    ProposalScore,
    Proposer,
    floor_proposals,
    score_proposals,
)
from sam_plugins.model.evaluation.single_point import chosen_objects
from sam_plugins.model.evaluation.summary import summarise_scores
from sam_plugins.model.evaluation.task_report import Line, Plot
from sam_plugins.model.evaluation.tasks.task import (
    MODEL,
    Conclusion,
    Measured,
    Scores,
    mean_of,
    mean_rows,
)
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.labelled import LabelledImage

PROPOSAL_FIGURES: Mapping[str, str] = {
    f"ar{count}{'' if size == 'all' else f'_{size}'}": f"AR@{count}"
    + ("" if size == "all" else f" {size}")
    for size in AREA_RANGES
    for count in COUNTS
}
"""Figure, heading of its column."""


@dataclass(frozen=True, eq=False)
class _Row:
    """An object's score with a figure for each column."""

    score: ProposalScore

    @property
    def set_name(self) -> str:
        """Set of the picture."""
        return self.score.set_name

    @property
    def image_id(self) -> str:
        """Name of the picture."""
        return self.score.image_id

    @property
    def n_proposals(self) -> int:
        """Proposals of the picture."""
        return self.score.n_proposals

    def __getattr__(self, figure: str) -> float:
        """Return ``ar100_small`` and its kind."""
        if figure not in PROPOSAL_FIGURES:
            raise AttributeError(figure)
        count, _, size = figure.removeprefix("ar").partition("_")
        return self.score.recall(int(count), size or "all")


@dataclass(frozen=True, eq=False)
class Proposals:
    """How many objects are among the proposals.

    Parameters
    ----------
    proposer : callable
        From a picture to masks, best first.
    points_per_side : int
        Of its grid, for the report.
    """

    proposer: Proposer
    points_per_side: int = GRID_POINTS
    name: str = "proposals"
    title: str = "Object proposals: average recall"
    chosen_by: str = "average recall at 100 proposals"
    needs_complete: bool = False
    score_types: Sequence[type] = (ProposalScore,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The grid."""
        return {"points_per_side": self.points_per_side}

    def measure(self, image: LabelledImage) -> Measured:
        """Propose objects for one picture."""
        masks = self.proposer(image.image)
        scores = score_proposals(image, masks)
        floor = score_proposals(image, floor_proposals(image.image))
        return Measured(
            {MODEL: scores, FLOOR_NAME: floor},
            mean_of([_Row(score) for score in scores], "ar100"),
            lambda: _panels(image, masks, scores),
        )

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Average over the objects."""
        rows = {method: [_Row(score) for score in own] for method, own in scores.items()}
        return Conclusion(
            {
                method: summarise_scores(own, PROPOSAL_FIGURES, seed=seed)
                for method, own in rows.items()
            },
            mean_rows(rows, list(PROPOSAL_FIGURES), more=["n_proposals"]),
            [
                {
                    "method": method,
                    "set_name": score.set_name,
                    "image_id": score.image_id,
                    "object_id": score.object_id,
                    "area": score.area,
                    "best_iou": score.best_iou,
                    **{figure: getattr(_Row(score), figure) for figure in PROPOSAL_FIGURES},
                }
                for method, own in scores.items()
                for score in own
            ],
            [_by_count(scores), _by_iou(scores)],
        )


def _by_count(scores: Scores) -> Plot:
    """Return average recall over the number of proposals."""
    counts = np.unique(np.round(np.logspace(0, 3, 31))).astype(int)
    lines = []
    for method, own in scores.items():
        ranks = _ranks(own)
        recall = [float((ranks <= count).mean()) if ranks.size else 0.0 for count in counts]
        lines.append(
            Line(method, tuple(map(float, counts)), tuple(recall), is_floor=method != MODEL)
        )
    return Plot(
        "recall_by_count", "Average recall by number of proposals", "proposals", "average recall",
        tuple(lines), log_x=True,
    )  # fmt: skip


def _by_iou(scores: Scores) -> Plot:
    """Return the recall of all proposals over the IoU that is asked for."""
    lines = [
        Line(
            method,
            IOU_THRESHOLDS,
            tuple((_ranks(own) <= max(COUNTS)).mean(axis=0).tolist()),
            is_floor=method != MODEL,
        )
        for method, own in scores.items()
        if own
    ]
    return Plot(
        "recall_by_iou", f"Recall at {max(COUNTS)} proposals", "IoU", "recall", tuple(lines)
    )


def _ranks(scores: Sequence[ProposalScore]) -> NDArray[np.float64]:
    """Return the rank of each object's proposal at each threshold, infinite where there is none."""
    return np.array(
        [[np.inf if rank is None else rank for rank in score.ranks] for score in scores]
    )


def _panels(
    image: LabelledImage, masks: Sequence[WindowMask], scores: Sequence[ProposalScore]
) -> Panels:
    """Return the true objects, which of them were found, and the first proposals."""
    size_hw = (int(image.labels.shape[0]), int(image.labels.shape[1]))
    objects = chosen_objects(image, None, 0)
    truth = [WindowMask(one.window, one.mask) for one in objects]
    ranks = [score.ranks[0] for score in scores]
    finders = [masks[rank - 1] for rank in ranks if rank is not None]
    found = sum(rank is not None for rank in ranks)
    return [
        ("objects", with_labels(image.image, painted(truth, size_hw))),
        (
            f"proposals that find one at IoU 0.5: {found} of {len(objects)}",
            with_labels(image.image, painted(finders, size_hw)),
        ),
        (
            f"outlines of the first 10 of {len(masks)} proposals",
            _outlined(to_rgb(image.image), masks[:10], size_hw),
        ),
    ]


def _outlined(
    rgb: NDArray[np.uint8], masks: Sequence[WindowMask], size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a picture with each mask outlined, one over the other."""
    from sam_plugins.model.inference.overlay import PALETTE, inner_boundaries

    result = rgb.copy()
    width = 1 + max(size_hw) // 480
    for number, (window, mask) in enumerate(masks):
        edge = inner_boundaries(np.pad(mask, 1).astype(np.int32), width)[1:-1, 1:-1]
        result[window][edge] = PALETTE[number % len(PALETTE)]
    return result
