"""One run over labelled pictures: what is asked of a model, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sam_plugins.model.evaluation.automatic import (
    FLOOR_NAME,
    PictureScore,
    Segmenter,
    evaluate_automatic,
    otsu_watershed,
)
from sam_plugins.model.evaluation.report import Report, summarise_automatic, summarise_prompts
from sam_plugins.model.evaluation.single_point import (
    DEFAULT_CHUNK_SIZE,
    Embedding,
    ObjectScore,
    PromptableModel,
    evaluate_prompts,
)
from sam_plugins.model.io.labelled import LabelledFile, LabelledImage

Progress = Callable[[str, int, int], None]
"""Called with the task, the pictures read so far, and how many there are."""


def measure(
    name: str,
    files: Sequence[LabelledFile],
    *,
    model: PromptableModel[Embedding] | None = None,
    segmenter: Segmenter | None = None,
    with_floor: bool = True,
    max_objects: int | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
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

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is nothing to measure: no file, or neither a model nor a segmenter.
    UnreadableImageError
        If a picture cannot be read.
    """
    if not files or (model is None and segmenter is None):
        raise ValueError(
            f"measure needs pictures and a model or a segmenter, got {len(files)} pictures, "
            f"model {model!r} and segmenter {segmenter!r}"
        )
    objects: list[ObjectScore] = []
    pictures: list[PictureScore] = []
    seconds: dict[str, float] = {}
    if model is not None:
        start = time.perf_counter()
        images = _reported("prompts", files, on_progress)
        objects = list(
            evaluate_prompts(
                model, images, max_objects=max_objects, chunk_size=chunk_size, seed=seed
            )
        )
        seconds["prompts"] = time.perf_counter() - start
    if segmenter is not None:
        start = time.perf_counter()
        images = _reported("automatic", files, on_progress)
        methods = {name: segmenter} | ({FLOOR_NAME: otsu_watershed} if with_floor else {})
        pictures = list(evaluate_automatic(methods, images))
        seconds["automatic"] = time.perf_counter() - start
    return Report(
        model=name,
        data=dict(data or {}),
        prompts=summarise_prompts(objects, seed=seed) if model is not None else None,
        automatic=summarise_automatic(pictures, seed=seed),
        object_scores=objects,
        picture_scores=pictures,
        seconds=seconds,
    )


def _reported(
    task: str, files: Iterable[LabelledFile], on_progress: Progress | None
) -> Iterator[LabelledImage]:
    """Read pictures one at a time and say so."""
    files = list(files)
    for index, file in enumerate(files):
        if on_progress is not None:
            on_progress(task, index + 1, len(files))
        yield file.read()
