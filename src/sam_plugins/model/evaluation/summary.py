"""Means of scores with 95 % intervals, by set and over sets, as values and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from sam_plugins.model.evaluation.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    Statistic,
    bootstrap_mean,
    bootstrap_mean_over_sets,
    bootstrap_statistic,
)

MEAN_OVER = "mean over "
"""How the last rows of a table begin."""


class Score(Protocol):
    """What was measured of one object, or of one picture."""

    @property
    def set_name(self) -> str:
        """Set of the picture."""
        ...

    @property
    def image_id(self) -> str:
        """Name of the picture within its set."""
        ...


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


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """One set whose figures are computed from all of its pictures at once.

    Attributes
    ----------
    figures : mapping of str to Statistic
        See :data:`~sam_plugins.model.evaluation.bootstrap.Statistic`.
    pictures, objects : int
        Counts.
    """

    figures: Mapping[str, Statistic]
    pictures: int
    objects: int


def summarise_scores(
    scores: Sequence[Score], figures: Mapping[str, str], *, seed: int = 0
) -> Summary:
    """Return means by set and over sets of attributes of scores.

    Parameters
    ----------
    scores : sequence of Score
        Of objects, or of pictures (which have ``n_true`` objects).
    figures : mapping of str to str
        Attribute, heading of its column. NaN, which measured nothing, is left out.
    seed : int
        Of the bootstrap.
    """
    by_set: dict[str, list[Score]] = {}
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
            name: sum(int(getattr(score, "n_true", 1)) for score in own)
            for name, own in by_set.items()
        },
    )


def summarise_statistics(
    sets: Mapping[str, SetStatistics],
    figures: Mapping[str, str],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Summary:
    """Return figures by set and over sets that are computed from whole sets.

    Parameters
    ----------
    sets : mapping of str to SetStatistics
    figures : mapping of str to str
        Key of :attr:`SetStatistics.figures`, heading of its column.
    resamples, seed
        Of the bootstrap.
    """
    return Summary(
        figures=figures,
        sets={
            name: {
                figure: bootstrap_statistic(
                    [(one.figures[figure], one.pictures)], resamples=resamples, seed=seed
                )
                for figure in figures
            }
            for name, one in sets.items()
        },
        over_sets={
            figure: bootstrap_statistic(
                [(one.figures[figure], one.pictures) for one in sets.values()],
                resamples=resamples,
                seed=seed,
            )
            for figure in figures
        },
        pictures={name: one.pictures for name, one in sets.items()},
        objects={name: one.objects for name, one in sets.items()},
    )


def table_rows(summaries: Mapping[str, Summary]) -> list[list[str]]:
    """Return a table of several methods as cells, the heading first.

    Parameters
    ----------
    summaries : mapping of str to Summary
        By method, with the same sets and figures.

    Returns
    -------
    list of list of str
        Set, method (where there are several), pictures, objects and the figures; one row for each
        set and method, and the means over sets last, where there are several sets.
    """
    some = next(iter(summaries.values()))
    has_methods = len(summaries) > 1

    def row(
        name: str, method: str, counts: Sequence[int], values: Mapping[str, Interval]
    ) -> list[str]:
        shown = [shown_interval(values[figure]) for figure in some.figures]
        return [name, *([method] if has_methods else []), *map(str, counts), *shown]

    rows = [
        ["set", *(["method"] if has_methods else []), "pictures", "objects", *some.figures.values()]
    ]
    for name in some.sets:
        for method, one in summaries.items():
            if name in one.sets:
                counts = one.pictures[name], one.objects[name]
                rows.append(row(name, method, counts, one.sets[name]))
    for method, one in summaries.items():
        totals = sum(one.pictures.values()), sum(one.objects.values())
        if len(one.sets) > 1:
            rows.append(row(f"{MEAN_OVER}{len(one.sets)} sets", method, totals, one.over_sets))
    return rows


def markdown_table(summaries: Mapping[str, Summary]) -> list[str]:
    """Return a table of several methods as lines of Markdown; numbers stand to the right."""
    rows = table_rows(summaries)
    text_columns = 2 if len(summaries) > 1 else 1
    rule = ["---"] * text_columns + ["---:"] * (len(rows[0]) - text_columns)
    figures = len(rows[0]) - len(next(iter(summaries.values())).figures)
    means = [
        [f"**{row[0]}**", *row[1:figures], *(f"**{cell}**" for cell in row[figures:])]
        if row[0].startswith(MEAN_OVER)
        else row
        for row in rows[1:]
    ]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *means)]


def shown_interval(interval: Interval) -> str:
    """Return ``0.812 [0.79, 0.83]``, or a dash where nothing was measured."""
    if math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def plain_summary(summary: Summary) -> dict[str, Any]:
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


def without_nan(value: Any) -> Any:  # noqa: ANN401
    """Return nested plain data with null for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
