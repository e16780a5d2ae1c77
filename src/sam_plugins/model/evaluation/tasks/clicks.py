"""The task ``clicks``: IoU after each of up to 20 clicks, and clicks until it is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.model.evaluation.bootstrap import bootstrap_mean
from sam_plugins.model.evaluation.click_curve import (
    MAX_CLICKS,
    ClickScore,
    CorrectableModel,
    evaluate_clicks,
)
from sam_plugins.model.evaluation.gallery import Panels, painted, with_labels
from sam_plugins.model.evaluation.report import CLICK_FIGURES, falling_words, summarise_clicks
from sam_plugins.model.evaluation.single_point import chosen_objects
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
from sam_plugins.model.io.labelled import LabelledImage

_FEW = 3
"""Clicks after which the masks are drawn: as many as people are willing to make."""


@dataclass(frozen=True, eq=False)
class Clicks:
    """Every object corrected click by click, by RITM's protocol.

    Parameters
    ----------
    model : CorrectableModel
    from_box : bool
        Whether a session starts with the object's tight box.
    max_objects : int, optional
        At most so many objects of a picture.
    seed : int
        Of their draw.
    is_steady : bool
        Whether corrections are held against the mask before, for the report.
    """

    model: CorrectableModel[Any]
    from_box: bool = False
    max_objects: int | None = None
    seed: int = 0
    is_steady: bool = True
    name: str = "clicks"
    title: str = "Clicks until the object is found, and IoU after some"
    chosen_by: str = f"mean IoU after {_FEW} clicks"
    needs_complete: bool = False
    score_types: Sequence[type] = (ClickScore,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How a session starts, and the draw of the objects."""
        return {
            "from_box": self.from_box,
            "steady": self.is_steady,
            "max_objects": self.max_objects,
            "seed": self.seed,
        }

    def measure(self, image: LabelledImage) -> Measured:
        """Correct the objects of one picture."""
        first: dict[int, NDArray[np.bool_]] = {}
        few: dict[int, NDArray[np.bool_]] = {}

        def look(object_id: int, clicks: int, mask: NDArray[np.bool_]) -> None:
            if clicks == 1:
                first[object_id] = _packed(mask)
            if clicks <= _FEW:
                few[object_id] = _packed(mask)

        scores = list(
            evaluate_clicks(
                self.model,
                [image],
                from_box=self.from_box,
                max_objects=self.max_objects,
                seed=self.seed,
                on_answer=look,
            )
        )
        return Measured(
            {MODEL: scores}, mean_of(scores, "iou_3"), lambda: self._panels(image, first, few)
        )

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Average over the objects, and draw the curve."""
        mine: Sequence[ClickScore] = scores[MODEL]
        summary = summarise_clicks(mine, seed=seed)
        return Conclusion(
            {MODEL: summary},
            mean_rows({MODEL: mine}, [name for name in CLICK_FIGURES if name in summary.figures]),
            [
                {"method": MODEL, **asdict(one), "noc85": one.noc85, "noc90": one.noc90}
                for one in mine
            ],
            [_curve(mine, seed), _found(mine)] if mine else [],
            [falling_words(mine)] if mine else [],
        )

    def _panels(
        self,
        image: LabelledImage,
        first: Mapping[int, NDArray[np.bool_]],
        few: Mapping[int, NDArray[np.bool_]],
    ) -> Panels:
        """Return the true objects, and the masks after one click and after some."""
        size_hw = (int(image.labels.shape[0]), int(image.labels.shape[1]))
        objects = chosen_objects(image, self.max_objects, self.seed)
        truth = painted([WindowMask(one.window, one.mask) for one in objects], size_hw)
        return [
            ("objects", with_labels(image.image, truth)),
            *(
                (
                    caption,
                    with_labels(
                        image.image,
                        painted([_unpacked(one, size_hw) for one in masks.values()], size_hw),
                    ),
                )
                for caption, masks in (("1 click", first), (f"{_FEW} clicks", few))
            ),
        ]


def _curve(scores: Sequence[ClickScore], seed: int) -> Plot:
    """Return mean IoU over clicks of each set, and of all sets where there are several."""
    starts = [number for number in range(MAX_CLICKS + 1) if number or _has_boxes(scores)]
    by_set: dict[str, list[ClickScore]] = {}
    for score in scores:
        by_set.setdefault(score.set_name, []).append(score)
    lines = []
    for name, own in by_set.items():
        pictures = [score.image_id for score in own]
        intervals = [
            bootstrap_mean([_iou_at(score, number) for score in own], pictures, seed=seed)
            for number in starts
        ]
        is_sure = not np.isnan(intervals[0].low)
        lines.append(
            Line(
                name,
                tuple(map(float, starts)),
                tuple(one.mean for one in intervals),
                tuple(one.low for one in intervals) if is_sure else (),
                tuple(one.high for one in intervals) if is_sure else (),
            )
        )
    if len(lines) > 1:
        mean = np.mean([line.y for line in lines], axis=0)
        lines.insert(0, Line("mean over sets", lines[0].x, tuple(mean.tolist())))
    return Plot("curve", "IoU after each click", "clicks", "mean IoU", tuple(lines))


def _found(scores: Sequence[ClickScore]) -> Plot:
    """Return the share of objects that have reached an IoU after some clicks."""
    numbers = tuple(float(number) for number in range(1, MAX_CLICKS + 1))
    lines = []
    for limit in (0.85, 0.90):
        until = np.array([_reached(score, limit) for score in scores])
        share = tuple(float((until <= number).mean()) for number in numbers)
        lines.append(Line(f"IoU {limit:.2f}", numbers, share))
    return Plot(
        "found", "Objects found", "clicks", "share of objects that reached the IoU", tuple(lines)
    )


def _reached(score: ClickScore, limit: float) -> float:
    """Return the clicks until an IoU is reached, infinite where it never is."""
    reached = score.box_iou >= limit or max(score.ious, default=0.0) >= limit
    return float(score.clicks_until(limit)) if reached else float("inf")


def _iou_at(score: ClickScore, clicks: int) -> float:
    """Return the IoU after so many clicks; 0 is the box."""
    return score.iou_after(clicks) if clicks else score.box_iou


def _has_boxes(scores: Sequence[ClickScore]) -> bool:
    """Return whether the sessions started from boxes."""
    return any(not np.isnan(score.box_iou) for score in scores)


def _packed(mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Return a mask with eight pixels a byte: one is kept for each object of a picture."""
    return np.packbits(mask)


def _unpacked(bits: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of packed bits."""
    count = size_hw[0] * size_hw[1]
    return np.unpackbits(bits, count=count).reshape(size_hw).astype(bool)
