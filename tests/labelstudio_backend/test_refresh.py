"""Predictions of earlier models are made anew, those that nobody has begun, and no others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest
from flask import Flask, Response, jsonify, request
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import CONFIG, KEY, PROJECT, fetch
from tests.labelstudio_backend.payloads import data_url, disk, picture_of
from tests.labelstudio_backend.payloads import request as predict_request
from tests.labelstudio_backend.server import TOKEN
from tests.labelstudio_backend.serving import served
from tests.labelstudio_backend.test_batch import predicted

from sam_plugins.labelstudio_backend import batch, batch_log, refresh
from sam_plugins.labelstudio_backend import client as client_module
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.refresh import OwnModels
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.unfinished import Unfinished

NAME = f"label-studio-{KEY}"
OLD, NEW, NEWER = (f"{NAME}@{number}" for number in (1, 2, 10))
PICTURE = data_url(picture_of(disk((60, 80), (40, 30), 15)))
REASON = "another model is in use"


class Studio:
    """Label Studio as far as it is asked, with tasks as its API tells them.

    ``status`` is what it answers everything with, where that is set.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.patches: list[tuple[int, str]] = []
        self.queries: list[dict[str, Any]] = []
        self.status = 0
        self.url = ""
        self._number = 0

    def add(self, task: int, *versions: str, **others: Any) -> None:
        """Add a task with predictions of some versions."""
        predictions = []
        for version in versions:
            self._number += 1
            predictions.append({"id": self._number, "model_version": version, "result": []})
        self.tasks[task] = {
            "id": task,
            "data": {"image": PICTURE},
            "annotations": [],
            "total_annotations": 0,
            "cancelled_annotations": 0,
            "draft_exists": False,
            "predictions": predictions,
            **others,
        }

    def store(self, task: int, prediction: dict[str, Any]) -> None:
        """Store a prediction, as Label Studio does with those of an answer."""
        self._number += 1
        self.tasks[task]["predictions"].append({**prediction, "id": self._number})

    def versions(self) -> dict[int, list[str]]:
        """The versions of each task's predictions."""
        return {
            number: [one["model_version"] for one in task["predictions"]]
            for number, task in self.tasks.items()
        }

    def listed(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """The tasks of a listing, by the filters that Label Studio has."""
        values = {
            one["filter"].removeprefix("filter:tasks:"): one["value"]
            for one in query["filters"]["items"]
        }
        names = values.pop("predictions_model_versions")
        return [
            {
                "id": task["id"],
                "data": task["data"],
                # PostgreSQL tells them with spaces, SQLite without
                "predictions_model_versions": ", ".join(self.versions()[task["id"]]),
            }
            for _, task in sorted(self.tasks.items())
            if all(task[name] == value for name, value in values.items())
            and any(name in one for name in names for one in self.versions()[task["id"]])
        ]


@pytest.fixture
def studio() -> Iterator[Studio]:
    """A server in front of such a Label Studio."""
    made, app = Studio(), Flask(__name__)

    @app.before_request
    def down() -> tuple[Response, int] | None:
        return (jsonify({}), made.status) if made.status else None

    @app.get("/api/current-user/whoami")
    def user() -> Response:
        return jsonify({"id": 1, "email": "a@example.com"})

    @app.get("/api/projects/7/")
    def project() -> Response:
        return jsonify(PROJECT)

    @app.get("/api/tasks/")
    def tasks() -> Response:
        query = json.loads(request.args["query"])
        made.queries.append(query)
        found = made.listed(query)
        page, size = int(request.args["page"]) - 1, int(request.args["page_size"])
        return jsonify({"tasks": found[page * size : (page + 1) * size], "total": len(found)})

    @app.get("/api/tasks/<int:number>/")
    def task(number: int) -> tuple[Response, int]:
        found = made.tasks.get(number)
        return jsonify(found or {}), 404 if found is None else 200

    @app.post("/api/predictions/")
    def post() -> Response:
        body: dict[str, Any] = request.get_json()
        made.store(body["task"], body)
        return jsonify(body)

    @app.patch("/api/predictions/<int:number>/")
    def patch(number: int) -> Response:
        body: dict[str, Any] = request.get_json()
        for one in made.tasks[body["task"]]["predictions"]:
            if one["id"] == number:
                one.update(body)
        made.patches.append((number, body["model_version"]))
        return jsonify(body)

    with served(app) as made.url:
        yield made


MakeBackend = Callable[..., Service]


@pytest.fixture
def make_backend(
    studio: Studio, make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> MakeBackend:
    """Return what makes backends that find one object each, or do what a test says."""
    monkeypatch.setattr(refresh, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(batch, "_POST_WAIT_SECONDS", 0.0)

    def make(
        find: Callable[[Any, Any], Any] = lambda *_: None, model: str = NEW, **settings: Any
    ) -> Service:
        service = make_service(**{"url": studio.url, "api_key": TOKEN, **settings})

        def objects(project: Any, task: Any, *others: Any) -> Any:
            assert others[-1] == Priority.BATCH
            find(project, task)
            return [{"id": f"found{task.id:>05}"}], 0.5

        monkeypatch.setattr(service.parts()._batches._predictor, "_objects", objects)
        service.swap_model(KEY, model)
        return service

    return make


def look(service: Service) -> list[tuple[str, int, int]]:
    """Look, wait until nothing is at work, and return batches, newest first: why, tasks, posted."""
    service.refresh_predictions(KEY)
    refresher = service.parts()._refresher
    end = time.monotonic() + 60
    while refresher._at_work:
        assert time.monotonic() < end, service.status()
        time.sleep(0.01)
    return [(one["reason"], one["tasks"], one["posted"]) for one in service.status()["batches"]]


def refreshed(service: Service) -> list[tuple[int, int, int, int]]:
    """Look, and return how the batches went, newest first."""
    look(service)
    batches = service.status()["batches"]
    assert {one["reason"] for one in batches} <= {REASON}
    return [(one["tasks"], one["done"], one["failed"], one["posted"]) for one in batches]


def test_old_predictions_of_ours_are_replaced_where_nobody_has_begun(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PAGE", 2)
    service = make_backend()
    shipped = service.status()["model"]
    studio.add(1, OLD)
    studio.add(2, shipped)
    studio.add(3, "default-00000000")  # of the same name, from before an update
    studio.add(4, "yolo-v8", OLD)
    studio.add(5, NEW)
    studio.add(6, OLD, NEW)  # retrieved by hand meanwhile: that one is shown
    studio.add(7, NEW, OLD)  # to and fro: the old one is shown
    studio.add(8, NEWER)
    studio.add(9, "yolo-v8", "label-studio-8.1795850291@1", "default")
    studio.add(10)
    studio.add(11, OLD, annotations=[{}], total_annotations=1)
    studio.add(12, OLD, annotations=[{}], cancelled_annotations=1)
    studio.add(13, OLD, draft_exists=True)
    before = studio.versions()
    # of these, 6 and 13 are known to need nothing only when they are looked at
    assert refreshed(service) == [(8, 8, 0, 6)]
    changed = {1: [NEW], 2: [NEW], 3: [NEW], 4: ["yolo-v8", NEW], 7: [NEW, NEW], 8: [NEW]}
    assert studio.versions() == {**before, **changed}
    assert studio.tasks[1]["predictions"][0]["result"] == [{"id": "found00001"}]
    assert len(studio.patches) == 6
    assert len(studio.queries) == 5
    assert refreshed(service) == [(8, 8, 0, 6)]  # once for each model
    assert len(studio.queries) == 5
    service.swap_model(KEY, OLD)
    assert refreshed(service)[0] == (8, 8, 0, 8)  # rolled back
    assert studio.versions()[6] == [OLD, OLD]
    assert studio.versions()[7] == [NEW, OLD]
    assert service.problems.documents() == []


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


def test_versions_are_told_apart_as_wholes() -> None:
    models = OwnModels(OLD, {NAME, "default"})
    assert not models.may_be_old(OLD)
    assert not models.may_be_old("")
    assert not models.may_be_old(f"{OLD}, yolo-v8, default")
    assert models.may_be_old(f"{OLD}0")
    assert models.may_be_old(f"{OLD},default-00000000")
    assert not models.is_ours(None)


def test_a_task_that_fails_keeps_its_prediction(studio: Studio, make_backend: MakeBackend) -> None:
    def find(_: Any, task: Any) -> None:
        if task.id == "2":
            raise ValueError("it makes no sense")

    service = make_backend(find)
    for task in (1, 2, 3):
        studio.add(task, OLD)
    studio.add(4, OLD, data={"other": "of another config"})
    assert refreshed(service) == [(4, 4, 2, 2)]
    assert studio.versions() == {1: [NEW], 2: [OLD], 3: [NEW], 4: [OLD]}
    told = {one["task"]: one["kind"] for one in service.problems.documents()}
    assert told == {"2": "internal", "4": "prompt"}


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


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({"automatic": False}, {}),
        ({"refresh_predictions": False}, {}),
        ({}, {"refresh_predictions": False}),
    ],
)
def test_it_can_be_switched_off(
    studio: Studio, make_backend: MakeBackend, settings: dict[str, Any], extra: dict[str, Any]
) -> None:
    service = make_backend(**settings)
    service.setup({"project": KEY, "schema": CONFIG, "extra_params": extra})
    studio.add(1, OLD)
    assert refreshed(service) == []
    assert studio.queries == []
    service.setup({"project": KEY, "schema": CONFIG, "extra_params": {"output": "brush"}})
    is_off = bool(settings)
    assert refreshed(service) == ([] if is_off else [(1, 1, 0, 1)])


def test_a_backend_that_starts_goes_on(studio: Studio, make_backend: MakeBackend) -> None:
    ready = threading.Event()

    def find(_: Any, task: Any) -> None:
        if task.id == "3":
            ready.set()
            time.sleep(0.2)  # it is cut off here
            raise RuntimeError("the backend ends")

    first = make_backend(find)
    for task in range(1, 6):
        studio.add(task, OLD)
    first.refresh_predictions(KEY)
    assert ready.wait(60)
    first.drain()
    end = time.monotonic() + 60
    while first.parts()._refresher._at_work:
        assert time.monotonic() < end
        time.sleep(0.01)
    done = len(studio.patches)
    assert 2 <= done < 5
    assert first.problems.documents() == []
    second = make_backend()
    assert refreshed(second) == [(5 - done, 5 - done, 0, 5 - done)]
    assert set(map(tuple, studio.versions().values())) == {(NEW,)}
    assert len(studio.patches) == 5


def test_a_batch_of_hundreds_is_finished_after_a_restart(
    studio: Studio, make_backend: MakeBackend, tmp_path: Path
) -> None:
    made: list[str] = []
    ready = threading.Event()

    def find(_: Any, task: Any) -> None:
        if len(made) >= 200:
            ready.set()
            time.sleep(0.2)  # it is cut off here
            raise RuntimeError("the backend ends")
        made.append(task.id)

    for number in range(1, 301):
        studio.add(number)
    first = make_backend(find, batch_seconds=0, refresh_predictions=False)
    tasks = [{"id": number, "data": {"image": PICTURE}} for number in studio.tasks]
    body = {"project": KEY, "label_config": CONFIG, "tasks": tasks}
    answers = predicted(create_app(first.settings, service=first).test_client(), body)
    for number, answer in enumerate(answers, 1):
        if answer:
            studio.store(number, answer)
    assert ready.wait(60)
    first.drain()
    wait_until(lambda: not first.parts()._batches._pending())
    stored = sum(map(len, studio.versions().values()))
    assert 200 <= stored < 210
    assert list((tmp_path / "backend" / "batches").iterdir())
    studio.tasks.pop(300)
    studio.store(299, {"model_version": NEW})  # retrieved by hand meanwhile

    second = make_backend(refresh_predictions=False)
    left = 300 - stored - 2
    assert [one[:2] for one in look(second)] == [
        ("asked for before the backend was restarted", left)
    ]
    wait_until(lambda: second.status()["batches"][0]["posted"] == left)
    assert set(map(tuple, studio.versions().values())) == {(NEW,)}
    wait_until(lambda: not list((tmp_path / "backend" / "batches").iterdir()))
    assert look(make_backend()) == []
    assert first.problems.documents() == second.problems.documents() == []


def test_what_is_left_of_batches_that_nobody_can_read_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    Unfinished(folder).add(KEY, ["2", "10"])
    assert Unfinished(folder).of_earlier(KEY) == ["2", "10"]
    assert Unfinished(folder).of_earlier("8.1") == []
    (file,) = folder.iterdir()
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"project": "7.1", "tasks": 3}'):
        file.write_bytes(damaged)
        assert Unfinished(folder).of_earlier(KEY) == []
    folder.rename(tmp_path / "other")
    folder.write_bytes(b"")  # no folder: nothing can be kept, and nothing fails
    kept = Unfinished(folder)
    kept.add(KEY, ["3"])
    kept.end(KEY, "3")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("status", [401, 503])
def test_it_goes_on_when_label_studio_is_back(
    studio: Studio, make_backend: MakeBackend, status: int
) -> None:
    def find(_: Any, task: Any) -> None:
        if task.id == "3":
            studio.status = status

    service = make_backend(find)
    for task in range(1, 8):
        studio.add(task, OLD)
    (first,) = refreshed(service)
    assert first[3] <= 3
    (problem,) = [one for one in service.problems.documents() if one["since"]]
    assert problem["project"] == KEY
    assert "predictions of an earlier model cannot be made anew" in problem["message"]
    refreshed(service)
    assert len(service.status()["batches"]) == 1  # nothing is known of the tasks
    find_nothing = service.parts()._batches._predictor
    find_nothing._objects = lambda *_: ([], 0.5)  # type: ignore[method-assign,assignment]
    studio.status = 0
    done = len(studio.patches)
    assert refreshed(service)[0] == (7 - done, 7 - done, 0, 7 - done)
    assert not [one for one in service.problems.documents() if one["since"]]


def test_a_prediction_that_is_refused_is_told_and_the_others_go_on(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_backend()
    client = service.access.client(service.projects.get(KEY))
    assert client is not None
    sent = client._sent

    def refuse(method: str, path: str, *others: Any) -> Any:
        if (method, path) == ("PATCH", "/api/predictions/1/"):
            return SimpleNamespace(ok=False, status_code=400, text="too large")
        return sent(method, path, *others)

    monkeypatch.setattr(client, "_sent", refuse)
    studio.add(1, OLD)
    studio.add(2, OLD)
    assert refreshed(service) == [(2, 2, 1, 1)]
    assert studio.versions() == {1: [OLD], 2: [NEW]}
    (problem,) = service.problems.documents()
    assert problem["task"] == "1"
    assert "too large" in problem["message"]


def test_a_project_of_another_label_studio_or_without_a_config_is_not_touched(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_backend()
    studio.add(1, OLD)
    monkeypatch.setitem(PROJECT, "created_at", "2027-01-01T00:00:00Z")
    assert refreshed(service) == []
    monkeypatch.undo()
    monkeypatch.setitem(PROJECT, "label_config", "<View/>")
    service.swap_model(KEY, NEWER)
    assert refreshed(service) == []
    (problem,) = service.problems.documents()
    assert "cannot be made anew" in problem["message"]


def test_one_process_sees_to_it_while_label_studio_answers(studio: Studio, tmp_path: Path) -> None:
    looked: list[str] = []

    def learning_of(**settings: Any) -> BackendLearning:
        made = BackendLearning(
            LearningSettings(folder=tmp_path / "state", **settings),
            fetch=fetch,
            refresh_predictions=looked.append,
        )
        made.on_project(KEY)
        return made

    alone = learning_of()
    alone.work()
    assert looked == []  # without an address and a token
    alone.close()
    learning = learning_of(url=studio.url, token=TOKEN)
    lock = filelock.FileLock(tmp_path / "state" / "learning.lock")
    with lock:
        learning.work()
        assert looked == []  # another process does
    learning.work()
    learning.work()
    assert looked == [KEY, KEY]
    learning.close()
    studio.status = 503
    down = learning_of(url=studio.url, token=TOKEN)
    down.work()
    assert looked == [KEY, KEY]
    down.close()
