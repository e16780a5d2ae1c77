"""What one task measured of one model, as a value: figures, rows, curves, and pictures to see."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_plugins.model.evaluation.summary import (
    Summary,
    markdown_table,
    plain_summary,
    without_nan,
)

EXPLANATION = (
    "In brackets 95 % bootstrap intervals, drawn over pictures; in means over sets each set weighs "
    "the same."
)


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes
    ----------
    label : str
    x, y : tuple of float
    low, high : tuple of float
        A band around ``y``, where there is one.
    is_floor : bool
        Whether it is what a model has to beat; drawn thin and grey.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    is_floor: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot, not drawn yet.

    Attributes
    ----------
    name : str
        Of its file.
    title, x_label, y_label : str
    lines : tuple of Line
    log_x : bool
        Whether x is on a logarithmic scale.
    y_limits : (float, float)
    iso_f : bool
        Whether lines of equal F-measure lie behind it (precision over recall).
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False
    y_limits: tuple[float, float] = (0.0, 1.0)
    iso_f: bool = False


@dataclass(frozen=True)
class Example:
    """A picture to look at.

    Attributes
    ----------
    kind : str
        ``"best"``, ``"typical"`` or ``"worst"``.
    name : str
        Set and picture.
    value : float
        What it was chosen by.
    panels : tuple of (str, bytes)
        Captions and JPEG pictures.
    """

    kind: str
    name: str
    value: float
    panels: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class TaskReport:
    """What one task measured of one model.

    Attributes
    ----------
    task, title : str
        Its name on the command line, and in words.
    model : str
        Id of the model.
    data, settings : mapping
        Whatever one needs to measure the same again.
    summaries : mapping of str to Summary
        By method: the model first, then the floors.
    chosen_by : str
        What the examples are ordered by.
    pictures, objects : sequence of mapping
        One row for each picture and method, and for each object where the task asks for objects.
    plots : sequence of Plot
    examples : sequence of Example
    notes : sequence of str
        Sentences that belong to the table.
    seconds : float
    """

    task: str
    title: str
    model: str
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    summaries: Mapping[str, Summary]
    chosen_by: str = ""
    pictures: Sequence[Mapping[str, Any]] = ()
    objects: Sequence[Mapping[str, Any]] = ()
    plots: Sequence[Plot] = ()
    examples: Sequence[Example] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    seconds: float = 0.0


def report_json(report: TaskReport, *, with_rows: bool = True) -> str:
    """Return a report as JSON text; what could not be measured is null.

    Parameters
    ----------
    report : TaskReport
    with_rows : bool
        Whether rows and curves are listed too.
    """
    content: dict[str, Any] = {
        "task": report.task,
        "model": report.model,
        "data": report.data,
        "settings": report.settings,
        "seconds": report.seconds,
        "methods": {name: plain_summary(one) for name, one in report.summaries.items()},
        "notes": list(report.notes),
    }
    if with_rows:
        content["pictures"] = list(report.pictures)
        content["objects"] = list(report.objects)
        content["plots"] = [asdict(plot) for plot in report.plots]
    return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"


def report_markdown(report: TaskReport) -> str:
    """Return the table of a report as Markdown, means with 95 % intervals in brackets."""
    lines = [f"## {report.title}: {report.model}", "", *markdown_table(report.summaries), ""]
    for note in report.notes:
        lines += [note, ""]
    return "\n".join([*lines, EXPLANATION]) + "\n"


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; lists are joined by spaces, what could not be measured is empty.

    Examples
    --------
    >>> print(rows_csv([{"image": "a", "ious": (0.5, 0.75)}, {"image": "b", "n": 2}]))
    image,ious,n
    a,0.5 0.75,
    b,,2
    <BLANKLINE>
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in without_nan(row).items()})
    return text.getvalue()


def _cell(value: Any) -> Any:  # noqa: ANN401
    """Return a value as a cell of CSV."""
    if isinstance(value, list):
        return " ".join("" if one is None else str(one) for one in value)
    return "" if value is None else value
