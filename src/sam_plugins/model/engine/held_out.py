"""What a model does on held-out pictures, and whether another one does better."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.bootstrap import paired_bootstrap
from sam_plugins.model.evaluation.loaded import AutomaticSegmenter, LoadedModel
from sam_plugins.model.evaluation.measure import measure
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.labelled import LabelledFile
from sam_plugins.model.weights.comparison import Comparison

MAX_CLICKS = 5
"""Corrections that are measured: with more, a person draws by hand, and measuring takes long."""

CORRECTED = ("3 clicks", "5 clicks")
"""The figures of corrected masks, after so many clicks in all."""

METRIC = "mean of box IoU, mSA, and IoU after one, three and five clicks"

MAX_LOSS = 0.005
"""By how much corrected masks may be worse, on average, in weights that are kept: a model that is
better when asked once, and worse when corrected, costs people clicks."""


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
    details : mapping of str to mapping of str to float
        By picture, each of its figures.
    share : float
        How far the weights lie from the parent's (0) to those after the steps (1).
    """

    step: int
    pictures: Mapping[str, float]
    figures: Mapping[str, float]
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    share: float = 1.0

    @property
    def value(self) -> float:
        """Mean over the pictures."""
        return float(np.mean(list(self.pictures.values())))

    @property
    def corrected(self) -> float | None:
        """Mean IoU of corrected masks; None where they were not measured."""
        values = [self.figures[name] for name in CORRECTED if name in self.figures]
        return float(np.mean(values)) if values else None


def best_round(rounds: Sequence[Round]) -> Round:
    """Return the best of some rounds, the earlier one of equals.

    Parameters
    ----------
    rounds : sequence of Round
        The parent's first. One whose corrected masks are worse than the parent's by more than
        :data:`MAX_LOSS` is never the best, whatever else it gained.
    """
    parent = rounds[0].corrected
    allowed = [
        one
        for one in rounds
        if parent is None or one.corrected is None or one.corrected >= parent - MAX_LOSS
    ]
    return max(allowed, key=lambda one: one.value)


def measure_round(
    model: Model,
    step: int,
    files: Sequence[LabelledFile],
    *,
    max_objects: int,
    seed: int,
    share: float = 1.0,
    on_picture: Callable[[int, int], None] | None = None,
) -> Round:
    """Ask for the objects of the held-out pictures, correct them, and segment them as a whole.

    Parameters
    ----------
    model : Model
        As it is after ``step`` steps.
    step : int
    files : sequence of LabelledFile
    max_objects, seed : int
        At most so many prompted objects of a picture, drawn by the seed.
    share : float
        Noted in the round.
    on_picture : callable, optional
        Told how many pictures are measured, and how many there are; may raise to stop.

    Raises
    ------
    DatasetError
        If no picture has a labelled object.
    UnreadableImageError
        If a picture cannot be read.
    """
    asked = _Remembering(model)
    told = on_picture or (lambda _done, _total: None)
    told(0, len(files))
    report = measure(
        model.model_id,
        files,
        model=asked,
        clicked=asked,
        max_clicks=MAX_CLICKS,
        segmenter=AutomaticSegmenter(model) if model.has_instance_decoder else None,
        with_floor=False,
        max_objects=max_objects,
        seed=seed,
        on_progress=lambda _task, done, total: told(done, total),
    )
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in report.object_scores:
        own = values[f"{score.set_name}/{score.image_id}"]
        own["one click"].append(score.point_confident_iou)
        own["box"].append(score.box_iou)
    for clicked in report.click_scores:
        own = values[f"{clicked.set_name}/{clicked.image_id}"]
        for name in CORRECTED:
            own[name].append(clicked.iou_after(int(name.split()[0])))
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
        details=means,
        share=share,
    )


@dataclass(frozen=True)
class _Remembering(LoadedModel):
    """A model that encodes the picture once for all that is asked about it."""

    _last: list[tuple[NDArray[Any], ImageEmbedding]] = field(default_factory=list)

    def encode(self, image: NDArray[Any]) -> ImageEmbedding:
        """Return the embedding of a picture, the last one's again if it is the same array."""
        if not self._last or self._last[0][0] is not image:
            self._last[:] = [(image, super().encode(image))]
        return self._last[0][1]


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
    both = [name for name in names if name in parent.details and name in best.details]
    worse = []
    for figure in sorted({figure for name in both for figure in parent.details[name]}):
        own = [name for name in both if figure in parent.details[name]]
        difference = paired_bootstrap(
            [best.details[name][figure] for name in own],
            [parent.details[name][figure] for name in own],
        )
        if difference.high < 0:
            worse.append(figure)
    return Comparison(
        parent=parent_id,
        metric=METRIC,
        value=best.value,
        parent_value=parent.value,
        low=None if math.isnan(interval.low) else interval.low,
        high=None if math.isnan(interval.high) else interval.high,
        pictures=len(names),
        worse=tuple(worse),
    )
