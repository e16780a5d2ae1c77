"""The task ``instances``: masks for the boxes of a detector, or for moved true boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_plugins.model.evaluation.coco_matching import IOU_THRESHOLDS
from sam_plugins.model.evaluation.detections import NOISE, Boxes, Detections, noised_boxes
from sam_plugins.model.evaluation.gallery import Panels, painted, with_boxes, with_labels
from sam_plugins.model.evaluation.instances import (
    MaskAP,
    ModelPrompter,
    PictureInstances,
    ask_boxes,
    filled_boxes,
    has_classes,
    mask_ap,
    require_pycocotools,
)
from sam_plugins.model.evaluation.single_point import PromptableModel, chosen_objects
from sam_plugins.model.evaluation.summary import SetStatistics, summarise_statistics
from sam_plugins.model.evaluation.task_report import Line, Plot
from sam_plugins.model.evaluation.tasks.task import MODEL, Conclusion, Measured, Scores
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.labelled import LabelledImage

INSTANCE_FIGURES: Mapping[str, str] = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}

FLOOR = "filled box"

_RESAMPLES = 300  # each sorts all masks again


@dataclass(frozen=True, eq=False)
class Instances:
    """Masks for boxes, judged by COCO's mask AP.

    Parameters
    ----------
    model : PromptableModel
    detections : Detections, optional
        Of a detector. By default the true boxes, moved at random.
    noise : float
        How far they are moved, in widths and heights of the box.
    seed : int
        Of the moves.

    Raises
    ------
    MissingExtraError
        If pycocotools is not installed.
    ValueError
        If ``noise`` is negative.
    """

    model: PromptableModel[Any]
    detections: Detections | None = None
    noise: float = NOISE
    seed: int = 0
    name: str = "instances"
    title: str = "Instances from boxes: mask AP"
    chosen_by: str = "mean IoU of each object's best mask"
    needs_complete: bool = False
    score_types: Sequence[type] = (PictureInstances,)

    def __post_init__(self) -> None:
        """Check what would be met after the work only."""
        require_pycocotools()
        if not self.noise >= 0:
            raise ValueError(f"noise must be 0 or more, got {self.noise}")

    @property
    def settings(self) -> Mapping[str, Any]:
        """Where the boxes come from."""
        if self.detections is not None:
            return {"boxes": self.detections.source}
        return {"boxes": "true ones, moved at random", "noise": self.noise, "seed": self.seed}

    def measure(self, image: LabelledImage) -> Measured:
        """Ask with the boxes of one picture."""
        boxes = self._boxes_of(image)
        asked = ask_boxes(ModelPrompter(self.model), image, boxes)
        floor = ask_boxes(filled_boxes, image, boxes)
        return Measured(
            {MODEL: [asked.picture], FLOOR: [floor.picture]},
            asked.picture.mean_iou,
            lambda: _panels(image, boxes, asked.masks),
        )

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Count masks, set by set."""
        mine: Sequence[PictureInstances] = scores[MODEL]
        by_class = has_classes(mine)
        counted = {
            method: {
                name: mask_ap(of_set, with_classes=by_class)
                for name, of_set in _by_set(own).items()
            }
            for method, own in scores.items()
        }
        summaries = {
            method: summarise_statistics(
                {
                    name: SetStatistics(
                        one.figures,
                        len(_by_set(scores[method])[name]),
                        sum(len(p.objects) for p in _by_set(scores[method])[name]),
                    )
                    for name, one in sets.items()
                },
                INSTANCE_FIGURES,
                resamples=_RESAMPLES,
                seed=seed,
            )
            for method, sets in counted.items()
        }
        return Conclusion(
            summaries,
            [_row(method, one) for method, own in scores.items() for one in own],
            [row for method, own in scores.items() for one in own for row in _objects(method, one)],
            _plots(counted),
            self._notes(mine),
            {"by_class": by_class},
        )

    def _boxes_of(self, image: LabelledImage) -> Boxes:
        """Return the boxes of one picture."""
        size_hw = (int(image.labels.shape[0]), int(image.labels.shape[1]))
        if self.detections is not None:
            return self.detections.of(image.set_name, image.id, size_hw)
        return noised_boxes(
            chosen_objects(image, None, 0),
            size_hw,
            name=f"{image.set_name}/{image.id}",
            categories=image.categories,
            noise=self.noise,
            seed=self.seed,
        )

    def _notes(self, pictures: Sequence[PictureInstances]) -> list[str]:
        """Say what a reader must know about the boxes."""
        notes = []
        without = [one for one in pictures if not one.masks]
        if self.detections is not None and without:
            notes.append(
                f"{self.detections.source} has no box for {len(without)} of {len(pictures)} "
                "pictures."
            )
        if not all(one.complete for one in pictures):
            notes.append(
                "Where not every object is annotated, masks that match nothing do not count."
            )
        return notes


def _by_set(pictures: Sequence[PictureInstances]) -> dict[str, list[PictureInstances]]:
    """Return pictures by set."""
    by_set: dict[str, list[PictureInstances]] = {}
    for one in pictures:
        by_set.setdefault(one.set_name, []).append(one)
    return by_set


def _row(method: str, one: PictureInstances) -> dict[str, Any]:
    """Return one picture's own figures."""
    return {
        "set": one.set_name,
        "image": one.image_id,
        "method": method,
        "objects": len(one.objects),
        "boxes": len(one.masks),
        "mean_iou": one.mean_iou,
        "found_50": one.found,
    }


def _objects(method: str, one: PictureInstances) -> list[dict[str, Any]]:
    """Return a row for each object of a picture."""
    return [
        {
            "method": method,
            "set_name": one.set_name,
            "image_id": one.image_id,
            "object_id": object_id,
            "category": category,
            "area": entry["area"],
            "best_iou": iou,
        }
        for object_id, category, entry, iou in zip(
            one.object_ids, one.object_categories, one.objects, one.best_ious, strict=True
        )
    ]


def _plots(counted: Mapping[str, Mapping[str, MaskAP]]) -> list[Plot]:
    """Return AP over the IoU that is asked for, and precision over recall at IoU 0.5."""
    by_iou, curves = [], []
    recalls = tuple(np.linspace(0, 1, 101).tolist())
    for method, sets in counted.items():
        if not sets:
            continue
        means = np.mean([one.by_threshold for one in sets.values()], axis=0)
        curve = np.mean([one.precision for one in sets.values()], axis=0)
        is_floor = method != MODEL
        by_iou.append(Line(method, IOU_THRESHOLDS, tuple(means.tolist()), is_floor=is_floor))
        curves.append(Line(method, recalls, tuple(curve.tolist()), is_floor=is_floor))
    return [
        Plot("ap_by_iou", "AP by the IoU that is asked for", "IoU", "AP", tuple(by_iou)),
        Plot("precision_recall", "Masks at IoU 0.5", "recall", "precision", tuple(curves)),
    ]


def _panels(image: LabelledImage, boxes: Boxes, masks: Sequence[WindowMask]) -> Panels:
    """Return the true objects, and the boxes with the masks for them."""
    size_hw = (int(image.labels.shape[0]), int(image.labels.shape[1]))
    truth = [WindowMask(one.window, one.mask) for one in chosen_objects(image, None, 0)]
    found = with_labels(image.image, painted(masks, size_hw))
    return [
        ("objects", with_labels(image.image, painted(truth, size_hw))),
        ("boxes and masks", with_boxes(found, boxes.boxes_xyxy)),
    ]
