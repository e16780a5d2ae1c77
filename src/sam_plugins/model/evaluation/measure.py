"""Prompts, clicks and whole pictures in one pass, read once: for training, which measures often.

What people measure, one task with all that there is to see, is
:mod:`~sam_plugins.model.evaluation.run_task`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sam_plugins.model.evaluation.automatic import (
    FLOOR_NAME,
    PictureScore,
    Segmenter,
    evaluate_automatic,
    otsu_watershed,
)
from sam_plugins.model.evaluation.click_curve import (
    MAX_CLICKS,
    ClickScore,
    CorrectableModel,
    evaluate_clicks,
)
from sam_plugins.model.evaluation.report import (
    Report,
    summarise_automatic,
    summarise_clicks,
    summarise_prompts,
)
from sam_plugins.model.evaluation.single_point import (
    DEFAULT_CHUNK_SIZE,
    Embedding,
    ObjectScore,
    PromptableModel,
    evaluate_prompts,
)
from sam_plugins.model.io.labelled import LabelledFile, LabelledImage

TaskProgress = Callable[[str, int, int], None]
"""Called with the task, the pictures that it is done with, and how many there are."""

OnFailure = Callable[[LabelledFile, Exception], None]
"""Called with a picture that cannot be read or measured, and the error."""


def measure(
    name: str,
    files: Sequence[LabelledFile],
    *,
    model: PromptableModel[Embedding] | None = None,
    clicked: CorrectableModel[Embedding] | None = None,
    from_box: bool = False,
    max_clicks: int = MAX_CLICKS,
    segmenter: Segmenter | None = None,
    with_floor: bool = True,
    max_objects: int | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    on_progress: TaskProgress | None = None,
    on_failure: OnFailure | None = None,
) -> Report:
    """Measure a model, or whatever can be asked like one, on labelled pictures.

    Parameters
    ----------
    name : str
        Name of the model in the report.
    files : sequence of LabelledFile
        The pictures; read one at a time.
    model : PromptableModel, optional
        Asked with one point and one box per object.
    clicked : CorrectableModel, optional
        Corrected click by click.
    from_box : bool
        Whether ``clicked`` is given the object's box first.
    max_clicks : int
        Of each object that ``clicked`` is asked for, 1 to 20.
    segmenter : callable, optional
        Segments whole pictures.
    with_floor : bool
        Whether the floor (Otsu and a watershed) stands beside ``segmenter``.
    max_objects, chunk_size, seed
        See :func:`~sam_plugins.model.evaluation.single_point.evaluate_prompts`; ``seed`` also
        seeds the bootstrap.
    data : mapping, optional
        What the report says about the data.
    on_progress : callable, optional
        Told about every picture.
    on_failure : callable, optional
        Told about a picture that cannot be read or measured, and the error: the picture is left out
        of every figure, and the next one follows. By default the error is raised.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is nothing to measure: no file, or neither a model nor a segmenter; or if
        ``max_objects`` or ``chunk_size`` is below 1.
    UnreadableImageError
        If a picture cannot be read, and there is no ``on_failure``.
    """
    if not files or (model is None and segmenter is None and clicked is None):
        raise ValueError(
            f"measure needs pictures and a model or a segmenter, got {len(files)} pictures, "
            f"model {model!r} and segmenter {segmenter!r}"
        )
    asks: dict[str, Callable[[LabelledImage], list[Any]]] = {}
    if model is not None:
        ask = functools.partial(
            evaluate_prompts, model, max_objects=max_objects, chunk_size=chunk_size, seed=seed
        )
        list(ask([]))  # Wrong numbers are the caller's, and no picture's.
        asks["prompts"] = lambda image: list(ask([image]))
    if clicked is not None:
        correct = functools.partial(
            evaluate_clicks,
            clicked,
            from_box=from_box,
            max_clicks=max_clicks,
            max_objects=max_objects,
            seed=seed,
        )
        list(correct([]))
        asks["clicks"] = lambda image: list(correct([image]))
    if segmenter is not None:
        methods = {name: segmenter} | ({FLOOR_NAME: otsu_watershed} if with_floor else {})
        asks["automatic"] = lambda image: list(evaluate_automatic(methods, [image]))
    scores: dict[str, list[Any]] = {task: [] for task in asks}
    seconds = dict.fromkeys(asks, 0.0)
    for number, file in enumerate(files, start=1):
        try:
            answers = _answers(asks, file)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(file, error)
        else:
            for task, (found, took) in answers.items():
                scores[task] += found
                seconds[task] += took
        if on_progress is not None:
            for task in asks:
                on_progress(task, number, len(files))
    objects: list[ObjectScore] = scores.get("prompts", [])
    clicks: list[ClickScore] = scores.get("clicks", [])
    pictures: list[PictureScore] = scores.get("automatic", [])
    return Report(
        model=name,
        data=dict(data or {}),
        prompts=summarise_prompts(objects, seed=seed) if model is not None else None,
        clicks=summarise_clicks(clicks, seed=seed) if clicked is not None else None,
        automatic=summarise_automatic(pictures, seed=seed),
        object_scores=objects,
        click_scores=clicks,
        picture_scores=pictures,
        seconds=seconds,
    )


def _answers(
    asks: Mapping[str, Callable[[LabelledImage], list[Any]]], file: LabelledFile
) -> dict[str, tuple[list[Any], float]]:
    """Read one picture, and return the scores and the seconds of each task."""
    image = file.read()
    answers = {}
    for task, ask in asks.items():
        start = time.perf_counter()
        answers[task] = ask(image), time.perf_counter() - start
    return answers
