"""The files of a report: JSON, table, rows, plots and the page, all at once or none."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sam_plugins.errors import MissingExtraError, OutputError
from sam_plugins.model.evaluation.html_page import html_page
from sam_plugins.model.evaluation.plots import draw_plot
from sam_plugins.model.evaluation.task_report import (
    TaskReport,
    report_json,
    report_markdown,
    rows_csv,
)
from sam_plugins.model.io.atomic import make_folder, require_writable_folder
from sam_plugins.model.io.leftovers import remove_leftovers
from sam_plugins.model.io.together import files_together

REPORT_NAME = "report.json"
_NAMES = (REPORT_NAME, "report.html", "table.md", "pictures.csv", "objects.csv")
_KEYS = {"task", "model", "data", "settings", "methods"}


def prepare_folder(folder: str | os.PathLike[str], task: str, *, overwrite: bool = False) -> Path:
    """Make the folder of a report, before the work whose results it is to hold.

    Parameters
    ----------
    folder : path-like
    task : str
        A report of the same task is replaced.
    overwrite : bool
        Whether anything of the names of a report is replaced.

    Raises
    ------
    OutputError
        If the folder cannot be written to, or holds files that are no such report.
    """
    path = make_folder(folder)
    require_writable_folder(path)
    remove_leftovers(path)
    there = [name for name in _NAMES if (path / name).exists()]
    if there and not overwrite and _task_of(path / REPORT_NAME) != task:
        raise OutputError(
            f"{path} holds {', '.join(there)}, and no report of {task}; pass --overwrite to "
            "replace it, or another folder with -o"
        )
    return path


def write_folder(folder: Path, report: TaskReport) -> tuple[list[Path], MissingExtraError | None]:
    """Write a report.

    Parameters
    ----------
    folder : Path
        From :func:`prepare_folder`.
    report : TaskReport

    Returns
    -------
    (list of Path, MissingExtraError or None)
        The files, and why there are no plots among them, where Matplotlib is not installed.

    Raises
    ------
    OutputError
        If a file cannot be written; older ones are as they were then.
    """
    plots: dict[str, bytes] = {}
    missing = None
    try:
        plots = {plot.name: draw_plot(plot) for plot in report.plots}
    except MissingExtraError as error:
        missing = error
    contents: dict[str, bytes] = {
        REPORT_NAME: report_json(report).encode(),
        "report.html": html_page(report, plots).encode(),
        "table.md": report_markdown(report).encode(),
        "pictures.csv": rows_csv(report.pictures).encode(),
    }
    if report.objects:
        contents["objects.csv"] = rows_csv(report.objects).encode()
    contents |= {f"{name}.png": content for name, content in plots.items()}
    targets = [folder / name for name in contents]
    with files_together(targets) as temporary:
        for path, content in zip(temporary, contents.values(), strict=True):
            path.write_bytes(content)
    return targets, missing


def _task_of(path: Path) -> str | None:
    """Return the task of a report of ours, None for anything else."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or _KEYS - set(values):
        return None
    return str(values["task"])
