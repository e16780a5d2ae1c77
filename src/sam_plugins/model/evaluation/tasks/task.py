"""What a task is: pictures are measured one by one, then the whole is concluded from the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sam_plugins.model.evaluation.gallery import Panels
from sam_plugins.model.evaluation.summary import Summary
from sam_plugins.model.evaluation.task_report import Line, Plot
from sam_plugins.model.io.labelled import LabelledImage

MODEL = "model"
"""Name of the model among the methods until the report puts its id there."""

Scores = Mapping[str, Sequence[Any]]
"""By method, what was measured: of each object, or of the picture."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One picture.

    Attributes
    ----------
    scores : mapping of str to sequence
        By method, the model first. Kept for all pictures: numbers, not pictures.
    value : float
        How well the model did, to order the examples by; NaN where there is nothing to see.
    draw : callable
        Returns what there is to see. Called at once or never.
    """

    scores: Scores
    value: float
    draw: Callable[[], Panels]


@dataclass(frozen=True)
class Conclusion:
    """All pictures.

    Attributes
    ----------
    summaries : mapping of str to Summary
        By method, the model first.
    pictures, objects : sequence of mapping
        Rows of the report.
    plots : sequence of Plot
    notes : sequence of str
    settings : mapping
        Of the measurement, as far as the scores decided them.
    """

    summaries: Mapping[str, Summary]
    pictures: Sequence[Mapping[str, Any]]
    objects: Sequence[Mapping[str, Any]] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] | None = None


class Task(Protocol):
    """One of the tasks.

    Attributes
    ----------
    name : str
        On the command line.
    title : str
        In words.
    chosen_by : str
        What the examples are ordered by.
    needs_complete : bool
        Whether pictures with unlabelled objects are left out.
    settings : mapping
        Whatever one needs to measure the same again.
    score_types : sequence of type
        The dataclasses of which scores consist, with those within them.
    """

    @property
    def name(self) -> str:
        """On the command line."""
        ...

    @property
    def title(self) -> str:
        """In words."""
        ...

    @property
    def chosen_by(self) -> str:
        """What the examples are ordered by."""
        ...

    @property
    def needs_complete(self) -> bool:
        """Whether pictures with unlabelled objects are left out."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Whatever one needs to measure the same again."""
        ...

    @property
    def score_types(self) -> Sequence[type]:
        """The dataclasses of which scores consist, with those within them."""
        ...

    def measure(self, image: LabelledImage) -> Measured:
        """Ask the model, and whatever it is compared with, about one picture."""
        ...

    def conclude(self, scores: Scores, *, seed: int) -> Conclusion:
        """Return the figures of all pictures, whose scores are joined by method."""
        ...


def mean_rows(
    scores: Scores, figures: Sequence[str], *, more: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return a row for each picture and method with the means of figures over its objects.

    Parameters
    ----------
    scores : mapping of str to sequence
        Scores of objects, with ``set_name`` and ``image_id``.
    figures : sequence of str
        Attributes to average; NaN is left out.
    more : sequence of str
        Attributes that are the same for all objects of a picture.
    """
    rows = []
    for method, own in scores.items():
        by_picture: dict[tuple[str, str], list[Any]] = {}
        for score in own:
            by_picture.setdefault((score.set_name, score.image_id), []).append(score)
        for (set_name, image_id), of_picture in by_picture.items():
            rows.append(
                {
                    "set": set_name,
                    "image": image_id,
                    "method": method,
                    "objects": len(of_picture),
                    **{name: getattr(of_picture[0], name) for name in more},
                    **{figure: mean_of(of_picture, figure) for figure in figures},
                }
            )
    return rows


def mean_of(scores: Sequence[Any], figure: str) -> float:
    """Return the mean of an attribute of scores without NaN; NaN if nothing is left."""
    values = np.array([float(getattr(score, figure)) for score in scores])
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def share_above(
    label: str, values: Sequence[float], *, is_floor: bool = False, steps: int = 51
) -> Line:
    """Return the line of the share of values that reach a limit, for limits from 0 to 1."""
    limits = np.linspace(0, 1, steps)
    known = np.array([value for value in values if not np.isnan(value)])
    share = [(known >= limit).mean() if known.size else float("nan") for limit in limits]
    return Line(label, tuple(limits.tolist()), tuple(map(float, share)), is_floor=is_floor)
