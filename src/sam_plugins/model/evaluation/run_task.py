"""One task over labelled pictures, read one at a time, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sam_plugins.errors import DatasetError
from sam_plugins.model.evaluation.gallery import DrawnPanels, Gallery, drawn_panels
from sam_plugins.model.evaluation.task_report import Line, Plot, TaskReport
from sam_plugins.model.evaluation.tasks.task import MODEL, Scores, Task
from sam_plugins.model.io.labelled import LabelledSource

Progress = Callable[[int, int], None]
"""Called with the pictures that are done, and how many there are."""

OnFailure = Callable[[LabelledSource, Exception], None]
"""Called with a picture that cannot be read or measured, and the error."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture that was measured.

    Attributes
    ----------
    scores : mapping of str to sequence
        By method.
    value : float
        How well the model did.
    draw : callable
        Returns what there is to see; called at once or never.
    """

    scores: Scores
    value: float
    draw: Callable[[], DrawnPanels]


Measure = Callable[[Sequence[LabelledSource]], Iterable[tuple[LabelledSource, Callable[[], Seen]]]]
"""From the pictures to what was seen in each, in their order; the call raises what went wrong."""


def see(task: Task, file: LabelledSource) -> Seen:
    """Read and measure one picture."""
    measured = task.measure(file.read())
    return Seen(measured.scores, measured.value, lambda: drawn_panels(measured.draw()))


def measure_here(task: Task) -> Measure:
    """Return what measures pictures one after the other, in this process."""
    return lambda files: ((file, partial(see, task, file)) for file in files)


def run_task(
    task: Task,
    files: Sequence[LabelledSource],
    *,
    model_name: str,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    on_failure: OnFailure | None = None,
    measure: Measure | None = None,
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
    measure : callable, optional
        Measures the pictures elsewhere, or takes what is known of them; by default
        :func:`measure_here`.

    Returns
    -------
    TaskReport

    Raises
    ------
    DatasetError
        If there is no picture that the task can be measured on, or no object in any.
    """
    start = time.perf_counter()
    chosen = suitable(task, files)
    gallery = Gallery()
    number_seen = 0
    scores: dict[str, list[Any]] = {MODEL: []}
    seen_in = (measure or measure_here(task))(chosen)
    for number, (file, look) in enumerate(seen_in, start=1):
        try:
            seen = look()
            name = f"{file.set_name}/{file.id}"
            gallery.add_drawn(name, seen.value, _drawer(seen, model_name))
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(file, error)
        else:
            number_seen += 1
            for method, own in seen.scores.items():
                scores.setdefault(method, []).extend(own)
        if on_progress is not None:
            on_progress(number, len(chosen))
    conclusion = task.conclude(scores, seed=seed)
    if number_seen and not any(scores.values()):
        raise DatasetError(
            f"none of the {number_seen} pictures has an object to measure on; check that the "
            "labels are the right ones"
        )
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


def _drawer(seen: Seen, name: str) -> Callable[[], DrawnPanels]:
    """Return what draws a picture, with the model's own name in the captions."""
    return lambda: tuple(
        (name if caption == MODEL else caption, picture) for caption, picture in seen.draw()
    )


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
