"""The task ``automatic``: whole pictures segmented, beside Otsu's threshold and a watershed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sam_plugins.model.evaluation.automatic import (
    FLOOR_NAME,
    PictureScore,
    Segmenter,
    evaluate_automatic,
    otsu_watershed,
)
from sam_plugins.model.evaluation.gallery import Panels, with_labels
from sam_plugins.model.evaluation.metrics import MSA_THRESHOLDS
from sam_plugins.model.evaluation.report import summarise_automatic
from sam_plugins.model.evaluation.task_report import Line, Plot
from sam_plugins.model.evaluation.tasks.task import MODEL, Conclusion, Measured, Scores
from sam_plugins.model.io.labelled import LabelledImage


@dataclass(frozen=True, eq=False)
class Automatic:
    """Every object of a picture, nobody asked.

    Parameters
    ----------
    segmenter : callable
        From a picture as it comes from a file to a label image.
    mode : str
        How it finds objects, for the report.
    """

    segmenter: Segmenter
    mode: str = "auto"
    name: str = "automatic"
    title: str = "Automatic segmentation"
    chosen_by: str = "mSA"
    needs_complete: bool = False
    score_types: Sequence[type] = (PictureScore,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The mode."""
        return {"mode": self.mode}

    def measure(self, image: LabelledImage) -> Measured:
        """Segment one picture by every method."""
        found: dict[str, Any] = {}

        def remembering(method: str, segmenter: Segmenter) -> Segmenter:
            def segment(picture: Any) -> Any:  # noqa: ANN401
                found[method] = segmenter(picture)
                return found[method]

            return segment

        methods = {
            method: remembering(method, segmenter)
            for method, segmenter in (
                (MODEL, self.segmenter),
                (FLOOR_NAME, otsu_watershed),
            )
        }
        scores = {score.method: [score] for score in evaluate_automatic(methods, [image])}
        return Measured(scores, scores[MODEL][0].msa, lambda: _panels(image, found))

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Average over the pictures."""
        every = [score for own in scores.values() for score in own]
        rows = []
        for score in every:
            row = asdict(score)
            for old, new in (("set_name", "set"), ("image_id", "image")):
                row[new] = row.pop(old)
            first = {key: row.pop(key) for key in ("set", "image", "method")}
            rows.append({**first, **row})
        lines = [
            Line(
                method,
                MSA_THRESHOLDS,
                tuple(np.nanmean([score.accuracies for score in own], axis=0).tolist()),
                is_floor=method != MODEL,
            )
            for method, own in scores.items()
            if any(not np.isnan(score.msa) for score in own)
        ]
        plot = Plot(
            "accuracy_by_iou", "Objects right, by the IoU that is asked for", "IoU",
            "TP / (TP + FP + FN)", tuple(lines),
        )  # fmt: skip
        return Conclusion(summarise_automatic(every, seed=seed), rows, plots=[plot])


def _panels(image: LabelledImage, found: Mapping[str, Any]) -> Panels:
    """Return the true objects, and those that each method found."""
    return [
        ("objects", with_labels(image.image, image.labels)),
        *((method, with_labels(image.image, labels)) for method, labels in found.items()),
    ]
