"""Figures of a model on data sets: means with 95 % intervals, as values, JSON and Markdown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_plugins.model.evaluation.automatic import PictureScore
from sam_plugins.model.evaluation.click_curve import ClickScore, falling_clicks
from sam_plugins.model.evaluation.single_point import ObjectScore
from sam_plugins.model.evaluation.summary import (
    Summary,
    markdown_table,
    plain_summary,
    summarise_scores,
    without_nan,
)
from sam_plugins.model.io.atomic import write_bytes

PROMPT_FIGURES: Mapping[str, str] = {
    "point_best_iou": "one point, best of 3",
    "point_confident_iou": "one point, most confident",
    "box_iou": "box",
    "point_calibration_error": "error of predicted IoU",
}
"""What is said about prompts: attribute of :class:`ObjectScore`, heading of its column."""

CLICK_FIGURES: Mapping[str, str] = {
    "noc85": "NoC@85",
    "noc90": "NoC@90",
    "box_iou": "box",
    "iou_1": "1 click",
    "iou_2": "2",
    "iou_3": "3",
    "iou_5": "5",
    "iou_10": "10",
    "iou_20": "20 clicks",
}
"""What is said about clicks: attribute of :class:`ClickScore`, heading of its column."""

AUTOMATIC_FIGURES: Mapping[str, str] = {
    "msa": "mSA",
    "ap50": "AP50",
    "pq": "PQ",
    "dice": "Dice",
    "splits": "splits a picture",
    "merges": "merges a picture",
}
"""What is said about automatic segmentation: attribute of :class:`PictureScore`, heading."""


@dataclass(frozen=True)
class Report:
    """What was measured of one model.

    Attributes
    ----------
    model : str
        Name or id of the model.
    data : mapping of str to object
        Folder, split, sets, sampling: whatever one needs to measure the same again.
    prompts : Summary or None
        One point and one box per object.
    clicks : Summary or None
        Clicks until an object is found, and the IoU after some.
    automatic : mapping of str to Summary
        Automatic segmentation by method, the floor among them.
    object_scores, click_scores, picture_scores : sequences
        Every single measurement.
    seconds : mapping of str to float
        Time of each task.
    """

    model: str
    data: Mapping[str, Any] = field(default_factory=dict)
    prompts: Summary | None = None
    clicks: Summary | None = None
    automatic: Mapping[str, Summary] = field(default_factory=dict)
    object_scores: Sequence[ObjectScore] = ()
    click_scores: Sequence[ClickScore] = ()
    picture_scores: Sequence[PictureScore] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def summarise_prompts(scores: Iterable[ObjectScore], *, seed: int = 0) -> Summary:
    """Return the means of object scores, by set and over sets.

    Parameters
    ----------
    scores : iterable of ObjectScore
        From :func:`~sam_plugins.model.evaluation.single_point.evaluate_prompts`.
    seed : int
        Of the bootstrap.
    """
    return summarise_scores(list(scores), PROMPT_FIGURES, seed=seed)


def summarise_clicks(scores: Iterable[ClickScore], *, seed: int = 0) -> Summary:
    """Return the means of click scores, by set and over sets.

    Parameters
    ----------
    scores : iterable of ClickScore
        From :func:`~sam_plugins.model.evaluation.click_curve.evaluate_clicks`.
    seed : int
        Of the bootstrap.
    """
    own = list(scores)
    has_boxes = any(not math.isnan(score.box_iou) for score in own)
    figures = {k: v for k, v in CLICK_FIGURES.items() if has_boxes or k != "box_iou"}
    return summarise_scores(own, figures, seed=seed)


def summarise_automatic(scores: Iterable[PictureScore], *, seed: int = 0) -> dict[str, Summary]:
    """Return the means of picture scores by method, each by set and over sets.

    Parameters
    ----------
    scores : iterable of PictureScore
        From :func:`~sam_plugins.model.evaluation.automatic.evaluate_automatic`.
    seed : int
        Of the bootstrap.
    """
    by_method: dict[str, list[PictureScore]] = {}
    for score in scores:
        by_method.setdefault(score.method, []).append(score)
    return {
        method: summarise_scores(own, AUTOMATIC_FIGURES, seed=seed)
        for method, own in by_method.items()
    }


def to_json(report: Report, *, with_scores: bool = True) -> str:
    """Return a report as JSON text; what could not be measured is null.

    Parameters
    ----------
    report : Report
        What was measured.
    with_scores : bool
        Whether every object and picture is listed too.
    """
    content: dict[str, Any] = {
        "model": report.model,
        "data": dict(report.data),
        "seconds": dict(report.seconds),
        "prompts": None if report.prompts is None else plain_summary(report.prompts),
        "clicks": None if report.clicks is None else plain_summary(report.clicks),
        "automatic": {name: plain_summary(one) for name, one in report.automatic.items()},
    }
    if with_scores:
        content["object_scores"] = [asdict(score) for score in report.object_scores]
        content["click_scores"] = [asdict(score) for score in report.click_scores]
        content["picture_scores"] = [asdict(score) for score in report.picture_scores]
    return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"


def to_markdown(report: Report) -> str:
    """Return a report as Markdown tables, means with 95 % intervals in brackets.

    Parameters
    ----------
    report : Report
        What was measured.
    """
    parts = [f"## {report.model}", ""]
    if report.prompts is not None:
        parts += ["### One prompt per object: IoU", "", *markdown_table({"": report.prompts}), ""]
    if report.clicks is not None:
        parts += ["### Clicks until the object is found, and IoU after some", ""]
        parts += [*markdown_table({"": report.clicks}), ""]
        if report.click_scores:
            parts += [falling_words(report.click_scores), ""]
    if report.automatic:
        parts += ["### Automatic segmentation", "", *markdown_table(report.automatic), ""]
    parts.append(
        "Means over objects (prompts, clicks) or pictures (automatic) of a set, with 95 % "
        "bootstrap intervals over pictures; over sets, each set weighs the same."
    )
    return "\n".join(parts) + "\n"


def write_report(path: str | os.PathLike[str], report: Report, *, with_scores: bool = True) -> None:
    """Write a report as JSON, complete or not at all.

    Parameters
    ----------
    path : path-like
        File to write.
    report : Report
        What was measured.
    with_scores : bool
        Whether every object and picture is listed too.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_bytes(path, to_json(report, with_scores=with_scores).encode())


def falling_words(scores: Sequence[ClickScore]) -> str:
    """Return a sentence about the clicks that made things worse."""
    falling = falling_clicks(scores)
    if not falling:
        return "No click lowers the mean IoU."
    return f"Clicks after which the mean IoU is lower: {', '.join(map(str, falling))}."
