"""People begin tasks, batches end and models change while predictions are made anew."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.labelstudio_backend.learning.helpers import CONFIG, KEY
from tests.labelstudio_backend.payloads import request as predict_request
from tests.labelstudio_backend.refresh.studio import (
    NEW,
    NEWER,
    OLD,
    PICTURE,
    REASON,
    MakeBackend,
    Studio,
    look,
    refreshed,
)
from tests.labelstudio_backend.test_batch import predicted

from sam_plugins.labelstudio_backend import batch_log
from sam_plugins.labelstudio_backend.app import create_app


def test_what_a_batch_of_the_old_model_stores_later_is_replaced_too(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()

    def find(project: Any, task: Any) -> None:
        if (project.model, task.id) == (OLD, "1"):
            begun.set()
            assert go.wait(60)

    service = make_backend(find, model=OLD, batch_seconds=60)
    client = create_app(service.settings, service=service).test_client()
    body = predict_request(None, CONFIG, project=KEY, url=PICTURE)
    body["tasks"] = [{"id": number, "data": {"image": PICTURE}} for number in (1, 2)]
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(predicted(client, body)))
    asking.start()
    assert begun.wait(60)
    service.swap_model(KEY, NEW)
    studio.add(3, OLD)
    studio.add(4, OLD)
    assert look(service)[0] == (REASON, 2, 2)
    go.set()
    asking.join()
    for number, answer in enumerate(answers, 1):
        studio.add(number, answer["model_version"])
    assert look(service)[0] == (REASON, 2, 2)
    assert {version for (version,) in studio.versions().values()} == {NEW}
    asked = len(studio.queries)
    look(service)  # Label Studio takes a while to store an answer
    assert len(studio.queries) == asked + 1
    monkeypatch.setattr(batch_log, "_STORING_SECONDS", 0.0)
    look(service)
    look(service)
    assert len(studio.queries) == asked + 2


@pytest.mark.parametrize(
    "begun",
    [
        {"annotations": [{}], "total_annotations": 1},
        {"annotations": [{}], "cancelled_annotations": 1},
        {"draft_exists": True},
        {"predictions": [{"id": 99, "model_version": NEW, "result": []}]},
        None,
    ],
    ids=["annotated", "skipped", "drafted", "predicted", "deleted"],
)
def test_what_somebody_begins_meanwhile_is_left_alone(
    studio: Studio, make_backend: MakeBackend, begun: dict[str, Any] | None
) -> None:
    def find(_: Any, task: Any) -> None:
        if begun is None:
            del studio.tasks[int(task.id)]
        else:
            studio.tasks[int(task.id)].update(begun)

    service = make_backend(find)
    studio.add(1, OLD)
    assert refreshed(service) == [(1, 1, 0, 0)]
    assert studio.patches == []
    assert service.problems.documents() == []


def test_it_ends_when_the_model_changes_and_is_done_with_the_next(
    studio: Studio, make_backend: MakeBackend
) -> None:
    def find(project: Any, task: Any) -> None:
        if project.model == NEW and task.id == "3":
            service.projects.set_model(KEY, NEWER)

    service = make_backend(find)
    for task in range(1, 8):
        studio.add(task, OLD)
    (first,) = refreshed(service)
    assert first[1] <= 4
    assert studio.versions()[3] == [OLD]
    assert studio.versions()[7] == [OLD]
    ended = [one["seconds"] for one in service.status()["batches"]]
    assert refreshed(service)[0] == (7, 7, 0, 7)
    assert set(map(tuple, studio.versions().values())) == {(NEWER,)}
    assert service.status()["batches"][1]["seconds"] == ended[0]


def test_a_model_that_comes_back_meanwhile_is_done_whole(
    studio: Studio, make_backend: MakeBackend
) -> None:
    def find(project: Any, task: Any) -> None:
        if project.model == NEWER and task.id == "5":
            service.projects.set_model(KEY, NEW)

    service = make_backend(find)
    for task in range(1, 6):
        studio.add(task, OLD)
    assert refreshed(service)[0][3] == 5
    service.swap_model(KEY, NEWER)
    refreshed(service)
    assert studio.versions()[1] == [NEWER]
    refreshed(service)
    assert set(map(tuple, studio.versions().values())) == {(NEW,)}


def test_a_project_is_never_at_work_twice(studio: Studio, make_backend: MakeBackend) -> None:
    begun, go = threading.Event(), threading.Event()

    def find(*_: Any) -> None:
        begun.set()
        assert go.wait(60)

    service = make_backend(find)
    studio.add(1, OLD)
    service.refresh_predictions(KEY)
    assert begun.wait(60)
    for model in (NEWER, NEW):
        service.projects.set_model(KEY, model)
        service.refresh_predictions(KEY)
    assert len(service.status()["batches"]) == 1
    go.set()
    assert refreshed(service) == [(1, 1, 0, 1)]
