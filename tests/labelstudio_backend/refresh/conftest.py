"""A Label Studio to look into, and backends that find one object in each picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, jsonify, request
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import KEY, PROJECT
from tests.labelstudio_backend.refresh.studio import NEW, MakeBackend, Studio
from tests.labelstudio_backend.server import TOKEN
from tests.labelstudio_backend.serving import served

from sam_plugins.labelstudio_backend import batch, refresh
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.service import Service


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
