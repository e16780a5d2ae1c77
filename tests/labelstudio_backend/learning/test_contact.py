"""While Label Studio is down or refuses the token, the problems say so; no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, jsonify
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import KEY, fetch
from tests.labelstudio_backend.payloads import click, data_url, disk, own, picture_of, request
from tests.labelstudio_backend.server import TOKEN, free_port
from tests.labelstudio_backend.serving import served

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.contact import Contact
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.problems import Problems
from sam_plugins.labelstudio_backend.service import Service

Answers = dict[str, int]


@pytest.fixture
def studio() -> Iterator[tuple[str, Answers]]:
    """A server that answers as it is told: ``user`` and ``project`` with a status each.

    Its pictures are ``slow``, ``cut``, or a status."""
    answers = {"user": 200, "project": 404}
    app = Flask(__name__)

    @app.get("/api/current-user/whoami")
    def user() -> tuple[Response, int]:
        return jsonify({"id": 1, "email": "a@example.com"}), answers["user"]

    @app.get("/api/projects/<int:number>/")
    def project(number: int) -> tuple[Response, int]:
        return jsonify({}), answers["project"]

    @app.get("/data/upload/1/<name>.png")
    def picture(name: str) -> Response:
        if name == "slow":
            time.sleep(0.6)
        if name == "cut":
            return Response(iter([b"x"]), headers={"Content-Length": "9"})
        return Response(status=int(name) if name.isdigit() else 200)

    with served(app) as url:
        yield url, answers


def learning_of(url: str, folder: Path) -> tuple[BackendLearning, Callable[[], list[Any]]]:
    """The learning of a backend, and its problems after a step of work."""
    problems = Problems()
    settings = LearningSettings(folder=folder, url=url, token=TOKEN, reconcile_seconds=1e-3)
    learning = BackendLearning(settings, fetch=fetch, problems=problems)
    learning.on_project(KEY)

    def found() -> list[Any]:
        time.sleep(0.002)  # so long that it is looked again
        learning.work()
        return problems.documents()

    return learning, found


def test_a_refused_token_is_a_problem_until_it_is_taken(
    studio: tuple[str, Answers], tmp_path: Path
) -> None:
    url, answers = studio
    learning, problems = learning_of(url, tmp_path)
    answers["user"] = 401
    first, again = problems(), problems()
    assert len(first) == len(again) == 1
    assert "refuses the token: make a personal access token" in first[0]["message"]
    assert "SAM_PLUGINS_LS_API_KEY" in first[0]["message"]
    assert first[0]["since"] == again[0]["since"] != ""
    assert learning.status()["errors"] == []  # each project alike: it stands among the problems
    answers["user"] = 200
    assert [one["project"] for one in problems()] == [KEY]
    learning.close()


def test_a_project_that_cannot_be_compared_is_a_problem_of_its_own(
    studio: tuple[str, Answers], tmp_path: Path
) -> None:
    learning, problems = learning_of(studio[0], tmp_path)
    (told,) = problems()
    assert (told["project"], told["kind"]) == (KEY, "label_studio")
    assert "annotations cannot be compared with Label Studio" in told["message"]
    assert "was it deleted?" in told["message"]
    with learning._database.writing() as connection:  # it was there once
        connection.execute("UPDATE projects SET reconciled_at = 1.0")
    assert problems() == []
    assert "was it deleted?" in learning.status()["projects"][KEY]["reconcile_error"]
    learning.close()


def told(service: Service) -> list[str]:
    """What a backend tells of its pictures, the newest first."""
    found = service.status()["problems"]
    return [one["message"] for one in found if one["kind"] == "image"]


def test_what_happened_while_it_was_down_is_forgotten_when_it_is_back(
    studio: tuple[str, Answers], make_service: MakeService
) -> None:
    url, answers = studio
    service = make_service(url=url, api_key=TOKEN, image_seconds=0.3)
    client = create_app(service.settings, service=service).test_client()
    contact = Contact(url, TOKEN, service.problems, look_seconds=0.0)

    def clicked(picture: str, task: int) -> None:
        address = f"/data/upload/1/{picture}.png"
        asked = request([click(4, 4, size_hw=(9, 9))], own(), url=address, task=task)
        assert client.post("/predict", json=asked).status_code == 200

    assert not contact.came_back()
    for task, picture in enumerate(("slow", "cut", "502", "401"), start=1):
        clicked(picture, task)
    causes = told(service)
    assert len(causes) == 4, causes
    assert not contact.came_back()
    assert told(service) == causes  # it is up: it is these pictures that are broken
    answers["user"] = 503
    assert not contact.came_back()
    for task, picture in enumerate(("slow", "cut", "502", "401", "404"), start=5):
        clicked(picture, task)
    assert len(told(service)) == 9
    assert not contact.came_back()
    answers["user"] = 200
    assert contact.came_back()
    assert told(service)[1:] == causes
    assert "answered 404" in told(service)[0]  # down or not, it is not there
    clicked("slow", 1)
    assert not contact.came_back()
    assert len(told(service)) == 6
    contact.close()


def test_what_happened_since_it_answered_last_is_of_the_outage(studio: tuple[str, Answers]) -> None:
    url, answers = studio
    problems = Problems()
    contact = Contact(url, TOKEN, problems, look_seconds=0.0)
    problems.add("image", "before it was looked", is_of_server=True)
    assert not contact.came_back()
    problems.add("image", "before it was noticed", is_of_server=True)
    problems.add("image", "damaged")
    answers["user"] = 503
    assert not contact.came_back()
    answers["user"] = 200
    assert contact.came_back()
    found = [one["message"] for one in problems.documents()]
    assert found == ["damaged", "before it was looked"]
    contact.close()


def test_nobody_there_is_a_problem_and_clicks_go_on(
    make_service: MakeService, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    learning, problems = learning_of(url, tmp_path)
    (problem,) = problems()
    assert "cannot reach Label Studio" in problem["message"]
    service = make_service(url=url, api_key=TOKEN)
    client = create_app(service.settings, service=service, learning=learning).test_client()
    picture = data_url(picture_of(disk((60, 80), (40, 30), 15)))
    asked = request([click(40, 30, size_hw=(60, 80))], own(), url=picture)
    answer = client.post("/predict", json=asked).json or {}
    assert len(answer["results"][0]["result"]) == 1
    learning.close()
