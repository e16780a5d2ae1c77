"""The prediction of one task: the objects of all its pictures, found here or on a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sam_plugins.labelstudio_backend.cluster import Cluster, done_or_here
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.label_config import ImageTag, LabelConfig
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.models import portable_name, version_of
from sam_plugins.labelstudio_backend.payload import Task
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.results import Drawing, finite_score
from sam_plugins.labelstudio_backend.target import Target, target_of_found
from sam_plugins.labelstudio_backend.whole_picture import (
    PictureOrder,
    Predicted,
    draw_objects,
    find_objects,
    predict_there,
)
from sam_plugins.model.large.whole import may_look_again

Prediction = dict[str, Any]
"""As Label Studio stores it."""

_FETCHES = 8


def prediction_of(project: Project, items: Sequence[Mapping[str, Any]], score: float) -> Prediction:
    """Return a prediction of the model that a project works with."""
    return {
        "result": list(items),
        "score": finite_score(score),
        "model_version": version_of(project.model),
    }


class TaskPredictor:
    """Makes the predictions of tasks, each in the thread that asks; safe with threads.

    Parameters
    ----------
    engine : Engine
    cluster : Cluster
        Where pictures of batches are worked on, if it is wanted and can be reached.
    """

    def __init__(self, engine: Engine, cluster: Cluster) -> None:
        self._engine = engine
        self._cluster = cluster
        self._fetching = threading.BoundedSemaphore(_FETCHES)

    def predict(
        self, project: Project, task: Task, config: LabelConfig, priority: Priority
    ) -> Prediction | None:
        """Return the objects of all pictures of a task; None where they are only encoded.

        Raises
        ------
        PayloadError, ConfigError
            If the task does not fit the config.
        ImageError
            If a picture cannot be had.
        """
        items: list[Mapping[str, Any]] = []
        scores: list[float] = []
        config = config.for_data(task.data)
        for image in config.images:
            for page, url in enumerate(task.urls(image)):
                number = page if image.is_list else None
                found, sure = self._objects(project, task, config, image, number, url, priority)
                items += found
                scores.append(sure)
        if not project.settings.automatic:
            return None
        return prediction_of(project, items, float(np.mean(scores)) if scores else 0.0)

    def _objects(
        self,
        project: Project,
        task: Task,
        config: LabelConfig,
        image: ImageTag,
        page: int | None,
        url: str,
        priority: Priority,
    ) -> Predicted:
        """Return the objects of one picture, and how good they are expected to be."""
        settings = project.settings
        target = None
        if settings.automatic:
            target = target_of_found(
                config, image.name, label=settings.auto_label, output=settings.output
            )
        drawing = Drawing(
            tolerance=settings.polygon_tolerance, min_area=settings.min_area, page=page
        )

        def here() -> Predicted:
            return self._objects_here(project, task, url, target, drawing, priority)

        if priority < Priority.BATCH or not self._cluster.is_wanted:
            return here()
        return self._objects_there(project, task, url, target, drawing, here)

    def _objects_here(
        self,
        project: Project,
        task: Task,
        url: str,
        target: Target | None,
        drawing: Drawing,
        priority: Priority,
    ) -> Predicted:
        """Predict a picture in the lane."""
        engine = self._engine
        model, embedding = engine.embedding(project, task, url, priority)
        if target is None:
            return [], 0.0
        is_more = engine.lane.run(lambda: may_look_again(model, embedding), priority)
        # Read here and not in the lane, which others wait for.
        rgb = engine.rgb(project, task, url) if is_more else None
        segmentation, sure = engine.lane.run(
            lambda: find_objects(model, embedding, rgb, lambda: engine.lane.let_pass(priority)),
            priority,
        )
        return draw_objects(segmentation, target, drawing), sure

    def _objects_there(
        self,
        project: Project,
        task: Task,
        url: str,
        target: Target | None,
        drawing: Drawing,
        here: Callable[[], Predicted],
    ) -> Predicted:
        """Let a worker of the cluster predict a picture, which is fetched here: it has no token."""
        source = self._engine.source(project, task, url)
        with self._fetching:
            file = self._engine.files.get(source)
        is_kept = self._engine.files.kept(source.key) is not None
        model = portable_name(project.model)
        order = PictureOrder(
            settings=self._engine.settings.for_workers(),
            model=model,
            version=version_of(model),
            key=source.key,
            target=target,
            drawing=drawing,
            content=None if is_kept else file.content,
            niceness=self._engine.settings.train_niceness if self._cluster.is_here else 0,
        )
        del file  # many wait for the cluster at once
        return done_or_here(self._cluster, predict_there, order, here)
