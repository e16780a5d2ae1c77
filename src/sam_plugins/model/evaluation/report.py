"""Figures of a model on data sets: means with 95 % intervals, as values, JSON and Markdown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_plugins.model.evaluation.automatic import PictureScore
from sam_plugins.model.evaluation.bootstrap import (
    Interval,
    bootstrap_mean,
    bootstrap_mean_over_sets,
)
from sam_plugins.model.evaluation.click_curve import ClickScore, falling_clicks
from sam_plugins.model.evaluation.single_point import ObjectScore
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
class Summary:
    """Means of some figures for each set, and over the sets.

    Attributes
    ----------
    figures : mapping of str to str
        Attribute of the scores, heading of the column.
    sets : mapping of str to mapping of str to Interval
        By set, then by figure: the mean over the set's objects (or pictures). Pictures are what
        the interval is drawn from.
    over_sets : mapping of str to Interval
        Mean of the sets' means, each weighing the same; of sets whose figure could be measured.
    pictures, objects : mapping of str to int
        Counts by set.
    """

    figures: Mapping[str, str]
    sets: Mapping[str, Mapping[str, Interval]]
    over_sets: Mapping[str, Interval]
    pictures: Mapping[str, int]
    objects: Mapping[str, int]


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
    return _summarise(list(scores), PROMPT_FIGURES, seed)


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
    return _summarise(own, figures, seed)


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
    return {method: _summarise(own, AUTOMATIC_FIGURES, seed) for method, own in by_method.items()}


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
        "prompts": None if report.prompts is None else _plain_summary(report.prompts),
        "clicks": None if report.clicks is None else _plain_summary(report.clicks),
        "automatic": {name: _plain_summary(one) for name, one in report.automatic.items()},
    }
    if with_scores:
        content["object_scores"] = [asdict(score) for score in report.object_scores]
        content["click_scores"] = [asdict(score) for score in report.click_scores]
        content["picture_scores"] = [asdict(score) for score in report.picture_scores]
    return json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n"


def to_markdown(report: Report) -> str:
    """Return a report as Markdown tables, means with 95 % intervals in brackets.

    Parameters
    ----------
    report : Report
        What was measured.
    """
    parts = [f"## {report.model}", ""]
    if report.prompts is not None:
        parts += ["### One prompt per object: IoU", "", *_prompt_table(report.prompts), ""]
    if report.clicks is not None:
        parts += ["### Clicks until the object is found, and IoU after some", ""]
        parts += [*_prompt_table(report.clicks), ""]
        if report.click_scores:
            parts += [_falling(report.click_scores), ""]
    if report.automatic:
        parts += ["### Automatic segmentation", "", *_automatic_table(report.automatic), ""]
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


def _summarise(
    scores: Sequence[ObjectScore] | Sequence[ClickScore] | Sequence[PictureScore],
    figures: Mapping[str, str],
    seed: int,
) -> Summary:
    """Return means by set and over sets of the named attributes."""
    by_set: dict[str, list[ObjectScore | ClickScore | PictureScore]] = {}
    for score in scores:
        by_set.setdefault(score.set_name, []).append(score)
    columns = {
        name: {figure: [float(getattr(score, figure)) for score in own] for figure in figures}
        for name, own in by_set.items()
    }
    pictures = {name: [score.image_id for score in own] for name, own in by_set.items()}
    return Summary(
        figures=figures,
        sets={
            name: {
                figure: bootstrap_mean(values, pictures[name], seed=seed)
                for figure, values in columns[name].items()
            }
            for name in by_set
        },
        over_sets={
            figure: bootstrap_mean_over_sets(
                [(columns[name][figure], pictures[name]) for name in by_set], seed=seed
            )
            for figure in figures
        },
        pictures={name: len(set(ids)) for name, ids in pictures.items()},
        objects={
            name: sum(score.n_true if isinstance(score, PictureScore) else 1 for score in own)
            for name, own in by_set.items()
        },
    )


def _falling(scores: Sequence[ClickScore]) -> str:
    """Say which clicks made things worse."""
    falling = falling_clicks(scores)
    if not falling:
        return "No click lowers the mean IoU."
    return f"Clicks after which the mean IoU is lower: {', '.join(map(str, falling))}."


def _prompt_table(summary: Summary) -> list[str]:
    """Return one row for each set and one for their mean."""
    lines = _header(["set", "pictures", "objects", *summary.figures.values()], text_columns=1)
    for name, figures in summary.sets.items():
        counts = [str(summary.pictures[name]), str(summary.objects[name])]
        lines.append(_row([name, *counts, *(_shown(one) for one in figures.values())]))
    counts = [str(sum(summary.pictures.values())), str(sum(summary.objects.values()))]
    means = [f"**{_shown(one)}**" for one in summary.over_sets.values()]
    lines.append(_row([f"**mean over {len(summary.sets)} sets**", *counts, *means]))
    return lines


def _automatic_table(summaries: Mapping[str, Summary]) -> list[str]:
    """Return one row for each set and method, and the means over sets."""
    some = next(iter(summaries.values()))
    heading = ["set", "method", "pictures", "objects", *some.figures.values()]
    lines = _header(heading, text_columns=2)
    for name in some.sets:
        for method, summary in summaries.items():
            if name in summary.sets:
                counts = [str(summary.pictures[name]), str(summary.objects[name])]
                values = [_shown(one) for one in summary.sets[name].values()]
                lines.append(_row([name, method, *counts, *values]))
    for method, summary in summaries.items():
        counts = [str(sum(summary.pictures.values())), str(sum(summary.objects.values()))]
        means = [f"**{_shown(one)}**" for one in summary.over_sets.values()]
        lines.append(_row([f"**mean over {len(summary.sets)} sets**", method, *counts, *means]))
    return lines


def _header(names: Sequence[str], *, text_columns: int) -> list[str]:
    """Return a Markdown table's head; numbers stand to the right."""
    rule = ["---"] * text_columns + ["---:"] * (len(names) - text_columns)
    return [_row(names), _row(rule)]


def _row(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _shown(interval: Interval) -> str:
    """Return ``0.812 [0.79, 0.83]``, or a dash where nothing was measured."""
    if math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def _plain_summary(summary: Summary) -> dict[str, Any]:
    """Return a summary as dictionaries."""
    return {
        "sets": {
            name: {
                "pictures": summary.pictures[name],
                "objects": summary.objects[name],
                **{figure: asdict(one) for figure, one in figures.items()},
            }
            for name, figures in summary.sets.items()
        },
        "over_sets": {figure: asdict(one) for figure, one in summary.over_sets.items()},
    }


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """Return nested plain data with null for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
