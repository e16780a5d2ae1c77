"""The next pictures of a project: by expected gain, and now and then one to measure on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sam_plugins.errors import ImageError, LabelStoreError, ProjectError
from sam_plugins.model.engine.label_store import ImageRecord, Split
from sam_plugins.model.engine.project.encoding import encode_cached
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.selection import (
    Gain,
    GainWeights,
    Signals,
    choose_next,
    measure_signals,
    shows_nothing,
)
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.rgb import to_rgb

OnFailure = Callable[[ImageRecord, ImageError | LabelStoreError], object]


@dataclass(frozen=True)
class Choice:
    """A picture that should be labelled next.

    Attributes
    ----------
    record : ImageRecord
    gain : Gain or None
        Why; None for a picture to measure on, which is drawn at random.
    """

    record: ImageRecord
    gain: Gain | None


def choose_pictures(
    project: Project,
    model: Model,
    cache: EmbeddingCache,
    count: int = 1,
    *,
    weights: GainWeights | None = None,
    max_pool: int = 200,
    on_progress: Callable[[int, int], None] | None = None,
    on_failure: OnFailure | None = None,
) -> list[Choice]:
    """Return the pictures that people should label next, in this order.

    Pictures to learn from are chosen by gain. Those to measure on are drawn at random, lest what is
    measured is what was hard, and come so often that their share among the labelled ones is the
    project's. What the model says about a picture is remembered, so that a call that was
    interrupted goes on where it was, and the next one is quick.

    Parameters
    ----------
    project : Project
    model : Model
    cache : EmbeddingCache
    count : int
    weights : GainWeights, optional
    max_pool : int
        The model looks at so many of the pictures that nobody has labelled, drawn at random;
        looking takes seconds for each.
    on_progress : callable, optional
        Told how many pictures the model has looked at, and of how many.
    on_failure : callable, optional
        Told of each picture that is gone, has changed or cannot be read, and of the error; the
        others are chosen from. Without it the first one ends the work.

    Raises
    ------
    ProjectError
        If no picture is left.
    ImageError, LabelStoreError
        If a picture cannot be read, or has changed, and nobody wants to be told.
    ValueError
        If ``count`` or ``max_pool`` is below 1.
    """
    if count < 1 or max_pool < 1:
        raise ValueError(f"count and max_pool must be 1 or more, got {count} and {max_pool}")
    pool = _shuffled(project.untouched(Split.TRAIN), project.settings.seed)[:max_pool]
    measured_on = _shuffled(project.untouched(Split.HELD_OUT), project.settings.seed)
    if not pool and not measured_on:
        found = "every picture of the project is labelled; import more"
        if not project.labels.images():
            found = "the project has no pictures; import some"
        raise ProjectError(f"{found} with `sam-plugins engine import`")
    plan = _plan(project, len(pool), len(measured_on), count)
    wanted = plan.count(Split.TRAIN)
    ranked: list[Gain] = []
    if wanted:
        look = partial(
            signals_of, project, model, cache, on_progress=on_progress, on_failure=on_failure
        )
        ranked = _by_gain(project, look, pool, wanted, weights)
        if len(ranked) < wanted:  # of the others some take their places
            plan = _plan(project, len(ranked), len(measured_on), count)
        if not plan:
            raise ProjectError(
                "no picture that is left can be read; import them from where they are now with "
                "`sam-plugins engine import`"
            )
    gains = iter(ranked)
    random_ones = iter(measured_on)
    by_id = {one.image_id: one for one in pool}
    choices = []
    for split in plan:
        if split == Split.HELD_OUT:
            choices.append(Choice(next(random_ones), None))
        else:
            gain = next(gains)
            choices.append(Choice(by_id[gain.image_id], gain))
    return choices


def signals_of(
    project: Project,
    model: Model,
    cache: EmbeddingCache,
    records: Sequence[ImageRecord],
    on_progress: Callable[[int, int], None] | None = None,
    on_failure: OnFailure | None = None,
) -> dict[str, Signals]:
    """Return what a model says about pictures, from the project's memory where it is there.

    Those that cannot be read are left out where ``on_failure`` is told of them.
    """
    known = project.state.signals(model.model_id)
    for done, record in enumerate(records):
        if on_progress is not None:
            on_progress(done, len(records))
        if record.image_id not in known:
            try:
                pixels = project.labels.read_image(record.image_id)
            except (ImageError, LabelStoreError) as error:
                if on_failure is None:
                    raise
                on_failure(record, error)
                continue
            rgb = to_rgb(pixels)
            embedding = encode_cached(model, rgb, cache)
            found = measure_signals(model, record.image_id, embedding, is_blank=shows_nothing(rgb))
            project.state.put_signals(found, model.model_id)
            known[record.image_id] = found
    return {one.image_id: known[one.image_id] for one in records if one.image_id in known}


def _by_gain(
    project: Project,
    look: Callable[[Sequence[ImageRecord]], dict[str, Signals]],
    pool: Sequence[ImageRecord],
    count: int,
    weights: GainWeights | None,
) -> list[Gain]:
    """Rank pictures against those that are labelled."""
    touched = [one for one in project.labels.images(split=Split.TRAIN) if project.is_touched(one)]
    every = look([*pool, *touched])
    known = [every[one.image_id].vector for one in touched if one.image_id in every]
    usable = [every[one.image_id] for one in pool if one.image_id in every]
    return choose_next(usable, known, min(count, len(usable)), weights) if usable else []


def _plan(project: Project, pool: int, measured_on: int, count: int) -> list[Split]:
    """Return from which split each of the next pictures comes."""
    records = [one for one in project.labels.images() if project.is_touched(one)]
    held_out = sum(one.split == Split.HELD_OUT for one in records)
    total, share = len(records), project.settings.held_out_share
    plan: list[Split] = []
    while len(plan) < count and (pool or measured_on):
        is_due = held_out + 1 <= share * (total + 1) + 1e-9
        split = Split.HELD_OUT if measured_on and (is_due or not pool) else Split.TRAIN
        plan.append(split)
        total += 1
        if split == Split.HELD_OUT:
            held_out, measured_on = held_out + 1, measured_on - 1
        else:
            pool -= 1
    return plan


def _shuffled(records: Sequence[ImageRecord], seed: int) -> list[ImageRecord]:
    """Return pictures in an order that chance decided once for all."""
    keys = [hashlib.sha256(f"{seed}:{one.image_id}".encode()).hexdigest() for one in records]
    return [records[index] for index in np.argsort(keys, kind="stable")]
