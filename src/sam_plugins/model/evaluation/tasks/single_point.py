"""The task ``single-point``: one centre point and one tight box for each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.evaluation.automatic import FLOOR_NAME, otsu_watershed
from sam_plugins.model.evaluation.click_curve import Click, CorrectableModel, Dialogue
from sam_plugins.model.evaluation.gallery import Panels, painted, with_labels, with_points
from sam_plugins.model.evaluation.report import PROMPT_FIGURES, summarise_prompts
from sam_plugins.model.evaluation.single_point import (
    LowResMasks,
    ObjectScore,
    chosen_objects,
    evaluate_prompts,
)
from sam_plugins.model.evaluation.task_report import Plot
from sam_plugins.model.evaluation.tasks.task import (
    MODEL,
    Conclusion,
    Measured,
    Scores,
    mean_of,
    mean_rows,
    share_above,
)
from sam_plugins.model.inference.full_size import SizeChain, WindowMask
from sam_plugins.model.io.labelled import LabelledImage

FLOOR = f"{FLOOR_NAME}, filled box"

_FLOOR_CHUNK = 4  # masks at the size of the picture


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """One centre point and one tight box for each object.

    Parameters
    ----------
    model : CorrectableModel
    max_objects : int, optional
        At most so many objects of a picture.
    seed : int
        Of their draw.
    """

    model: CorrectableModel[Any]
    max_objects: int | None = None
    seed: int = 0
    name: str = "single-point"
    title: str = "One point or one box per object: IoU"
    chosen_by: str = "mean IoU of the most confident mask of one point"
    needs_complete: bool = False
    score_types: Sequence[type] = (ObjectScore,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The draw of the objects."""
        return {"max_objects": self.max_objects, "seed": self.seed}

    def measure(self, image: LabelledImage) -> Measured:
        """Ask for the objects of one picture."""
        scores = list(
            evaluate_prompts(self.model, [image], max_objects=self.max_objects, seed=self.seed)
        )
        floor = list(
            evaluate_prompts(
                FloorPrompter(),
                [image],
                max_objects=self.max_objects,
                chunk_size=_FLOOR_CHUNK,
                seed=self.seed,
            )
        )
        return Measured(
            {MODEL: scores, FLOOR: floor},
            mean_of(scores, "point_confident_iou"),
            lambda: self._panels(image, scores),
        )

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Average over the objects."""
        mine: Sequence[ObjectScore] = scores[MODEL]
        lines = [
            share_above(heading, [getattr(score, figure) for score in mine])
            for figure, heading in PROMPT_FIGURES.items()
            if figure.endswith("_iou")
        ]
        floors = [
            share_above(
                heading, [getattr(one, figure) for one in scores.get(FLOOR, ())], is_floor=True
            )
            for figure, heading in (
                ("point_best_iou", f"one point, {FLOOR_NAME}"),
                ("box_iou", "box, filled"),
            )
        ]
        plot = Plot(
            "found", "Objects found", "IoU", "share of objects with at least this IoU",
            (*lines, *floors),
        )  # fmt: skip
        return Conclusion(
            {method: summarise_prompts(own, seed=seed) for method, own in scores.items()},
            mean_rows(scores, list(PROMPT_FIGURES)),
            [
                {"method": method, **asdict(score)}
                for method, own in scores.items()
                for score in own
            ],
            [plot],
        )

    @torch.inference_mode()
    def _panels(self, image: LabelledImage, scores: Sequence[ObjectScore]) -> Panels:
        """Return the true objects with their points, and what a click on each gives."""
        points = [(score.point_x, score.point_y) for score in scores]
        masks = click_masks(self.model, image, points)
        objects = chosen_objects(image, self.max_objects, self.seed)
        size_hw = image.labels.shape[0], image.labels.shape[1]
        truth = painted([WindowMask(one.window, one.mask) for one in objects], size_hw)
        return [
            ("objects and points", with_points(with_labels(image.image, truth), points)),
            (
                "most confident masks",
                with_labels(image.image, painted(masks, size_hw)),
            ),
        ]


def click_masks(
    model: CorrectableModel[Any], image: LabelledImage, points_xy: Sequence[tuple[int, int]]
) -> list[WindowMask]:
    """Return the mask that a user would see after one click on each point."""
    embedding = model.encode(image.image)
    masks = []
    for x, y in points_xy:
        answer = model.answer(embedding, Dialogue((Click(x, y, is_positive=True),)))
        logits = answer.logits[0, 0].float().cpu().numpy()
        height, width = logits.shape
        sizes = SizeChain(
            (height, width),
            embedding.padded_size_hw,
            embedding.input_size_hw,
            embedding.original_size_hw,
        )
        masks.append(sizes.draw(logits))
    return masks


@dataclass(frozen=True, eq=False)
class _FloorEmbedding:
    """The pieces of a threshold, at the size of the picture."""

    labels: NDArray[np.int32]

    @property
    def original_size_hw(self) -> tuple[int, int]:
        """Of the picture."""
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    input_size_hw = padded_size_hw = original_size_hw


class FloorPrompter:
    """What anyone can do without learning: the piece of a threshold under a point, a filled box.

    It is a :class:`~sam_plugins.model.evaluation.single_point.PromptableModel`.
    """

    def encode(self, image: NDArray[Any]) -> _FloorEmbedding:
        """Return the pieces of Otsu's threshold and a watershed."""
        return _FloorEmbedding(otsu_watershed(image))

    def predict_points(
        self, embedding: _FloorEmbedding, points_xy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return the piece under each point, nothing where there is none."""
        labels = embedding.labels
        masks = np.zeros((len(points_xy), 1, *labels.shape), bool)
        for index, (x, y) in enumerate(points_xy.astype(int).tolist()):
            if labels[y, x]:
                masks[index, 0] = labels == labels[y, x]
        return _as_answer(masks)

    def predict_boxes(
        self, embedding: _FloorEmbedding, boxes_xyxy: NDArray[np.float32]
    ) -> LowResMasks:
        """Return each box, filled."""
        masks = np.zeros((len(boxes_xyxy), 1, *embedding.labels.shape), bool)
        for index, (x0, y0, x1, y1) in enumerate(boxes_xyxy.astype(int).tolist()):
            masks[index, 0, y0 : y1 + 1, x0 : x1 + 1] = True
        return _as_answer(masks)


def _as_answer(masks: NDArray[np.bool_]) -> LowResMasks:
    """Return masks as a model's answer without an opinion of them."""
    logits = torch.from_numpy(np.where(masks, 1.0, -1.0).astype(np.float32))
    return LowResMasks(logits, torch.full(masks.shape[:2], float("nan")))
