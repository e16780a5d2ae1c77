"""One task over labelled pictures, read one at a time, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.gallery import Gallery, Panels
from sam_plugins.model.evaluation.task_report import Line, Plot, TaskReport
from sam_plugins.model.evaluation.tasks.task import MODEL, Measured, Task
from sam_plugins.model.io.labelled import LabelledSource

Progress = Callable[[int, int], None]
"""Called with the pictures that are done, and how many there are."""

OnFailure = Callable[[LabelledSource, Exception], None]
"""Called with a picture that cannot be read or measured, and the error."""

T = TypeVar("T")


def run_task(
    task: Task,
    files: Sequence[LabelledSource],
    *,
    model_name: str,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    on_failure: OnFailure | None = None,
) -> TaskReport:
    """Measure a model in one task.

    Parameters
    ----------
    task : Task
        One of :mod:`sam_plugins.model.evaluation.tasks`.
    files : sequence of LabelledSource
        The pictures, read one at a time.
    model_name : str
        Name or id of the model in the report.
    data : mapping, optional
        What the report says about the data.
    seed : int
        Of the bootstrap.
    on_progress : callable, optional
        Told about every picture.
    on_failure : callable, optional
        Told about a picture that cannot be read or measured, and the error: the picture is left out
        of every figure, and the next one follows. By default the error is raised.

    Returns
    -------
    TaskReport

    Raises
    ------
    DatasetError
        If there is no picture that the task can be measured on.
    """
    start = time.perf_counter()
    chosen = suitable(task, files)
    gallery = Gallery()
    scores: dict[str, list[Any]] = {MODEL: []}
    for number, file in enumerate(chosen, start=1):
        try:
            image = file.read()
            measured = task.measure(image)
            gallery.add(f"{file.set_name}/{file.id}", measured.value, _drawer(measured, model_name))
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(file, error)
        else:
            for method, own in measured.scores.items():
                scores.setdefault(method, []).extend(own)
        if on_progress is not None:
            on_progress(number, len(chosen))
    conclusion = task.conclude(scores, seed=seed)
    notes = list(conclusion.notes)
    if len(chosen) < len(files):
        notes.append(
            f"{len(files) - len(chosen)} of {len(files)} pictures are left out, because not every "
            "object in them is annotated."
        )
    return TaskReport(
        task=task.name,
        title=task.title,
        model=model_name,
        data=dict(data or {}),
        settings={**task.settings, **(conclusion.settings or {}), "bootstrap_seed": seed},
        summaries=_named(conclusion.summaries, model_name),
        chosen_by=task.chosen_by,
        pictures=[_row(row, model_name) for row in conclusion.pictures],
        objects=[_row(row, model_name) for row in conclusion.objects],
        plots=[_plot(plot, model_name) for plot in conclusion.plots],
        examples=gallery.chosen(),
        notes=notes,
        seconds=time.perf_counter() - start,
    )


def suitable(task: Task, files: Sequence[LabelledSource]) -> list[LabelledSource]:
    """Return the pictures that a task can be measured on.

    Raises
    ------
    DatasetError
        If there is none.
    """
    chosen = [file for file in files if file.complete or not task.needs_complete]
    if not chosen:
        raise DatasetError(
            f"{task.name} needs pictures in which every object is annotated, and none of the "
            f"{len(files)} is said to be; choose other sets"
        )
    return chosen


def _drawer(measured: Measured, name: str) -> Callable[[], Panels]:
    """Return what draws a picture, with the model's own name in the captions."""
    return lambda: [
        (name if caption == MODEL else caption, picture) for caption, picture in measured.draw()
    ]


def _named(values: Mapping[str, T], name: str) -> dict[str, T]:
    """Return values by method with the model's own name."""
    return {name if method == MODEL else method: value for method, value in values.items()}


def _row(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a row with the model's own name."""
    return {**row, "method": name if row["method"] == MODEL else row["method"]}


def _plot(plot: Plot, name: str) -> Plot:
    """Return a plot whose lines have the model's own name."""
    lines = tuple(
        Line(
            name if line.label == MODEL else line.label, line.x, line.y, line.low, line.high,
            line.is_floor,
        )
        for line in plot.lines
    )  # fmt: skip
    return Plot(
        plot.name, plot.title, plot.x_label, plot.y_label, lines, plot.log_x, plot.y_limits,
        plot.iso_f,
    )  # fmt: skip
