"""A report as one HTML page that needs no other file: table, plots, pictures and every row."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sam_plugins.errors import how_to_install
from sam_plugins.model.evaluation.summary import MEAN_OVER, table_rows
from sam_plugins.model.evaluation.task_report import EXPLANATION, Example, TaskReport

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 90rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.model, .note, dt { color: #555; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .65rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #999; vertical-align: bottom; }
td.text, th.text { text-align: left; } tr.mean td { font-weight: 600; border-top: 1px solid #999; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots img { width: 100%; max-width: 36rem; }
figure { margin: 0 0 1.4rem; } figcaption { margin-bottom: .3rem; }
.kind { display: inline-block; min-width: 4.2rem; font-weight: 600; }
.panels { display: flex; gap: .6rem; }
.panels div { flex: 0 1 auto; min-width: 0; }
.panels img { max-width: 100%; max-height: 22rem; display: block; }
.panels span { font-size: 12px; color: #555; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: 13px; }
dd { margin: 0; } summary { cursor: pointer; }
"""
_TEXT = {"set", "image", "method", "failed"}


def html_page(report: TaskReport, plots: Mapping[str, bytes]) -> str:
    """Return a report as HTML.

    Parameters
    ----------
    report : TaskReport
    plots : mapping of str to bytes
        The report's plots by name, as PNG; those that could not be drawn are missing.

    Returns
    -------
    str
        A whole document, pictures embedded; nothing is loaded from elsewhere.
    """
    title = f"{report.title}: {report.model}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{html.escape(report.title)}</h1><div class="model">{html.escape(report.model)}</div>',
        f"<h2>Figures</h2>{_summary_table(report)}",
        *(f'<p class="note">{html.escape(note)}</p>' for note in (*report.notes, EXPLANATION)),
        _plots(report, plots),
        _examples(report),
        _rows("Every picture", report.pictures),
        f"<h2>How it was measured</h2>{_definitions(report)}",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _summary_table(report: TaskReport) -> str:
    """Return the table of all sets and methods."""
    heading, *rows = table_rows(report.summaries)
    text_columns = 2 if len(report.summaries) > 1 else 1
    lines = [_line(heading, text_columns, cell="th")]
    lines += [_line(row, text_columns, is_mean=row[0].startswith(MEAN_OVER)) for row in rows]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _line(
    cells: Sequence[str], text_columns: int, *, cell: str = "td", is_mean: bool = False
) -> str:
    """Return one line of a table."""
    as_text = ' class="text"'
    inner = "".join(
        f"<{cell}{as_text if place < text_columns else ''}>{html.escape(text)}</{cell}>"
        for place, text in enumerate(cells)
    )
    return f"<tr class='mean'>{inner}</tr>" if is_mean else f"<tr>{inner}</tr>"


def _plots(report: TaskReport, plots: Mapping[str, bytes]) -> str:
    """Return the plots, or why there are none."""
    if not report.plots:
        return ""
    if not plots:
        return (
            '<h2>Plots</h2><p class="note">Not drawn: Matplotlib is not installed '
            f"({html.escape(how_to_install('evaluate'))}).</p>"
        )
    pictures = [
        f'<img alt="{html.escape(plot.title)}" src="{_data_url(plots[plot.name], "png")}">'
        for plot in report.plots
        if plot.name in plots
    ]
    return f'<h2>Plots</h2><div class="plots">{"".join(pictures)}</div>'


def _examples(report: TaskReport) -> str:
    """Return the best, typical and worst pictures."""
    if not report.examples:
        return ""
    chosen = f'<p class="note">By {html.escape(report.chosen_by)}.</p>'
    return (
        "<h2>Best, typical and worst pictures</h2>"
        + chosen
        + "".join(_example(one) for one in report.examples)
    )


def _example(one: Example) -> str:
    """Return one picture with its panels side by side."""
    panels = "".join(
        f'<div><img alt="{html.escape(caption)}" src="{_data_url(content, "jpeg")}">'
        f"<span>{html.escape(caption)}</span></div>"
        for caption, content in one.panels
    )
    caption = f'<span class="kind">{one.kind}</span> {html.escape(one.name)}, {one.value:.3f}'
    return f'<figure><figcaption>{caption}</figcaption><div class="panels">{panels}</div></figure>'


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table that can be folded away."""
    if not rows:
        return ""
    columns = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if not any(isinstance(row.get(key), list | tuple) for row in rows)
    ]
    text_columns = sum(key in _TEXT for key in columns)
    lines = [_line([key.replace("_", " ") for key in columns], text_columns, cell="th")]
    lines += [_line([_shown(row.get(key)) for key in columns], text_columns) for row in rows]
    return (
        f"<h2>{title}</h2><details{' open' if len(rows) <= 60 else ''}>"
        f"<summary>{len(rows)} rows</summary>"
        f'<div class="scroll"><table>{"".join(lines)}</table></div></details>'
    )


def _definitions(report: TaskReport) -> str:
    """Return data and settings as a list."""
    entries = {
        "task": report.task,
        "model": report.model,
        **report.data,
        **report.settings,
        "seconds": f"{report.seconds:.0f}",
    }
    items = "".join(
        f"<dt>{html.escape(key.replace('_', ' '))}</dt><dd>{html.escape(_said(value))}</dd>"
        for key, value in entries.items()
    )
    return f"<dl>{items}</dl>"


def _said(value: Any) -> str:  # noqa: ANN401
    """Return a setting in words."""
    if value is None:
        return "all"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _shown(value: Any) -> str:  # noqa: ANN401
    """Return a value of a row as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _data_url(content: bytes, kind: str) -> str:
    """Return a picture as a URL that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
