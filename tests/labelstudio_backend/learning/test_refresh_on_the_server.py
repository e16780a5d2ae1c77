"""Predictions in a real Label Studio follow the model in use, and its editor shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from tests.labelstudio_backend.browser import open_task, submit
from tests.labelstudio_backend.payloads import disk, own, picture_of
from tests.labelstudio_backend.server import TOKEN, LabelStudio
from tests.labelstudio_backend.serving import served
from tests.labelstudio_backend.test_wire import until

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.creating import create_learning
from sam_plugins.labelstudio_backend.learning.keys import key_of, model_name_of
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.task_predictions import TaskPredictor
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.weights.registry import find_entry
from sam_plugins.model.weights.store import ModelStore

pytestmark = pytest.mark.server
SIZE = (96, 128)
HAS_REGION = "window.Htx?.annotationStore.selected?.regions?.length === 1"
"""In the page: a task is open, and its prediction has become an annotation."""


@contextmanager
def learning_backend(
    server: LabelStudio, folder: Path, model: Model | None = None
) -> Iterator[tuple[str, Service, BackendLearning]]:
    """A backend at work, that predicts when it is asked and not when a task is opened."""
    settings = Settings(
        url=server.url,
        api_key=SecretStr(TOKEN),
        folder=folder,
        device="cpu",
        prewarm_next=0,
        batch_seconds=90,
    )
    service = Service(settings, load=None if model is None else lambda _: model)
    learning = create_learning(settings, service)
    with served(create_app(settings, service=service, learning=learning)) as url:
        learning.start()
        try:
            yield url, service, learning
        finally:
            learning.close()
            service.close()


def pictures(folder: Path, count: int) -> list[Path]:
    """Files of a disk each, another one in each."""
    paths = [folder / f"disk{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(picture_of(disk(SIZE, (40 + 8 * number, 48), 20), number)).save(path)
    return paths


def predictions(server: LabelStudio, project: int) -> dict[int, list[tuple[int, str]]]:
    """Number and version of the predictions of each task."""
    return {
        task["id"]: sorted((one["id"], one["model_version"]) for one in task["predictions"])
        for task in server.tasks(project)
    }


def put_into_store(key: str, count: int) -> list[str]:
    """Versions of a project's model, none in use: all with the weights of the shipped one."""
    entry = find_entry("default")
    name = model_name_of(key)
    return [
        str(ModelStore().add(name, entry.path, model_id=f"made-{number}"))
        for number in range(count)
    ]


def test_predictions_follow_promotions_and_roll_backs_without_being_asked_for(
    label_studio: LabelStudio, tmp_path: Path
) -> None:
    with learning_backend(label_studio, tmp_path / "backend") as (url, service, learning):
        made = label_studio.make_project(own("PolygonLabels"))
        project, key = made["id"], key_of(made)
        assert key is not None
        label_studio.connect(project, url)
        tasks = label_studio.upload(project, pictures(tmp_path, 5))
        plain, annotated, drafted, skipped, foreign = tasks
        label_studio.call(
            "POST",
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            json={"selectedItems": {"all": False, "included": tasks[:4]}},
        )
        first = service.model_version(key)
        theirs = {"task": foreign, "result": [], "score": 0.5, "model_version": "yolo-v8"}
        label_studio.call("POST", "/api/predictions/", json=theirs)
        label_studio.annotate(annotated, [])
        drawn = {"result": [], "lead_time": 1.0}
        label_studio.call("POST", f"/api/tasks/{drafted}/drafts", json=drawn)
        skip = {"result": [], "was_cancelled": True}
        label_studio.call("POST", f"/api/tasks/{skipped}/annotations/", json=skip)
        before = predictions(label_studio, project)
        assert [[one for _, one in before[task]] for task in tasks] == [*[[first]] * 4, ["yolo-v8"]]
        ((number, _),) = before[plain]

        one, other = put_into_store(key, 2)

        def shows(version: str) -> bool:
            return predictions(label_studio, project)[plain] == [(number, version)]

        for version in (one, other):
            ModelStore().promote(version, force=True)
            until(lambda version=version: shows(version))  # type: ignore[misc]
            found = label_studio.call("GET", f"/api/predictions/{number}/")
            assert found["result"]
        learning.roll_back(key)
        until(lambda: shows(one))
        after = predictions(label_studio, project)
        assert {task: after[task] for task in tasks[1:]} == {
            task: before[task] for task in tasks[1:]
        }
        batches = [
            (batch["reason"], batch["tasks"], batch["posted"])
            for batch in service.status()["batches"]
        ]
        assert batches == [*[("another model is in use", 2, 1)] * 3, ("asked for", 4, 0)]
        # what annotators get one after the other is of the present model, too, and not asked for
        upcoming = label_studio.call("GET", f"/api/projects/{project}/next/")
        shown = [prediction["model_version"] for prediction in upcoming["predictions"]]
        assert (upcoming["id"], shown) == (plain, [one])
        assert len(service.status()["batches"]) == 4
        assert service.problems.documents() == []


@pytest.mark.browser
def test_the_editor_shows_the_new_one_and_submits_what_was_open(
    label_studio: LabelStudio,
    page: Any,
    tmp_path: Path,
    shipped_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def polygon(_: TaskPredictor, project: Any, *__: Any) -> tuple[list[Any], float]:
        left = 10.0 + 20.0 * int(project.model.partition("@")[2] or 0)
        points = [[left, 10.0], [left + 15.0, 10.0], [left, 40.0]]
        item = {
            "id": f"region{left:06.0f}",
            "type": "polygonlabels",
            "from_name": "mask",
            "to_name": "image",
            "original_width": SIZE[1],
            "original_height": SIZE[0],
            "image_rotation": 0,
            "value": {"points": points, "closed": True, "polygonlabels": ["Cell"]},
        }
        return [item], 0.5

    monkeypatch.setattr(TaskPredictor, "_objects", polygon)
    with learning_backend(label_studio, tmp_path / "backend", shipped_model) as (url, *_):
        made = label_studio.make_project(own("PolygonLabels"))
        project, key = made["id"], key_of(made)
        assert key is not None
        label_studio.connect(project, url)

        def opened(task: int) -> None:
            open_task(page, label_studio, project, task)
            page.wait_for_function(HAS_REGION)

        early, late = label_studio.upload(project, pictures(tmp_path, 2))
        label_studio.call(
            "POST",
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            json={"selectedItems": {"all": True, "excluded": []}},
        )
        opened(early)
        (version,) = put_into_store(key, 1)
        ModelStore().promote(version, force=True)
        until(
            lambda: all(
                [one for _, one in found] == [version]
                for found in predictions(label_studio, project).values()
            )
        )

        def submitted(task: int) -> float:
            submit(page)

            def stored() -> Any:
                page.wait_for_timeout(100)
                return label_studio.call("GET", f"/api/tasks/{task}/annotations/")

            (annotation,) = until(stored)
            (item,) = annotation["result"]
            return float(np.min(item["value"]["points"], axis=0)[0])

        assert submitted(early) == pytest.approx(10, abs=0.1)  # what that person saw
        opened(late)
        assert submitted(late) == pytest.approx(30, abs=0.1)
