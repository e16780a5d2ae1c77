"""What a model does on held-out pictures, and whether another one does better."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.bootstrap import paired_bootstrap
from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.store import Comparison

METRIC = "mean of one-click IoU, box IoU and mSA"


@dataclass(frozen=True)
class Round:
    """What was measured on the held-out pictures after some steps.

    Attributes
    ----------
    step : int
        0 is the parent.
    pictures : mapping of str to float
        By picture, the mean of its figures; see :data:`METRIC`.
    figures : mapping of str to float
        Means over the pictures of each figure.
    """

    step: int
    pictures: Mapping[str, float]
    figures: Mapping[str, float]

    @property
    def value(self) -> float:
        """Mean over the pictures."""
        return float(np.mean(list(self.pictures.values())))


def measure_round(
    model: Model, step: int, files: Sequence[LabelledFile], *, max_objects: int, seed: int
) -> Round:
    """Ask for the objects of the held-out pictures, and segment them as a whole.

    Parameters
    ----------
    model : Model
        As it is after ``step`` steps.
    step : int
    files : sequence of LabelledFile
    max_objects, seed : int
        At most so many prompted objects of a picture, drawn by the seed.

    Raises
    ------
    DatasetError
        If no picture has a labelled object.
    UnreadableImageError
        If a picture cannot be read.
    """
    report = measure(
        model.model_id,
        files,
        model=LoadedModel(model),
        segmenter=AutomaticSegmenter(model) if model.has_instance_decoder else None,
        with_floor=False,
        max_objects=max_objects,
        seed=seed,
    )
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in report.object_scores:
        own = values[f"{score.set_name}/{score.image_id}"]
        own["one click"].append(score.point_confident_iou)
        own["box"].append(score.box_iou)
    for picture in report.picture_scores:
        if not math.isnan(picture.msa):
            values[f"{picture.set_name}/{picture.image_id}"]["mSA"].append(picture.msa)
    if not report.object_scores:
        raise DatasetError("no held-out picture has a labelled object: label some first")
    means = {
        name: {figure: float(np.mean(numbers)) for figure, numbers in own.items()}
        for name, own in values.items()
    }
    figures = sorted({figure for own in means.values() for figure in own})
    return Round(
        step=step,
        pictures={name: float(np.mean(list(own.values()))) for name, own in means.items()},
        figures={
            figure: float(np.mean([own[figure] for own in means.values() if figure in own]))
            for figure in figures
        },
    )


def compare_rounds(parent: Round, best: Round, parent_id: str, *, chosen_of: int) -> Comparison:
    """Compare two rounds picture by picture.

    Parameters
    ----------
    parent, best : Round
        Of the same pictures.
    parent_id : str
        Id of the parent's weights.
    chosen_of : int
        Of how many rounds ``best`` is the best. The best of many is better by chance more easily
        than one: the interval is as much wider (Bonferroni).
    """
    names = sorted(parent.pictures)
    interval = paired_bootstrap(
        [best.pictures[name] for name in names],
        [parent.pictures[name] for name in names],
        level=1 - 0.05 / chosen_of,
        resamples=20_000,
    )
    return Comparison(
        parent=parent_id,
        metric=METRIC,
        value=best.value,
        parent_value=parent.value,
        low=None if math.isnan(interval.low) else interval.low,
        high=None if math.isnan(interval.high) else interval.high,
        pictures=len(names),
    )
