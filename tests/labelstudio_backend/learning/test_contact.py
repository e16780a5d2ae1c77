"""While Label Studio is down or refuses the token, the problems say so; no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, jsonify
from tests.labelstudio_backend.learning.helpers import KEY, fetch
from tests.labelstudio_backend.server import TOKEN, free_port
from tests.labelstudio_backend.serving import served

from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.problems import Problems

Answers = dict[str, int]


@pytest.fixture
def studio() -> Iterator[tuple[str, Answers]]:
    """A server that answers as it is told: ``user`` and ``project`` with a status each."""
    answers = {"user": 200, "project": 404}
    app = Flask(__name__)

    @app.get("/api/current-user/whoami")
    def user() -> tuple[Response, int]:
        return jsonify({"id": 1, "email": "a@example.com"}), answers["user"]

    @app.get("/api/projects/<int:number>/")
    def project(number: int) -> tuple[Response, int]:
        return jsonify({}), answers["project"]

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


def test_what_happened_while_it_was_down_is_forgotten_when_it_is_back() -> None:
    problems = Problems()
    problems.add("image", "of a server that is down", is_of_server=True)
    problems.add("image", "damaged")
    back = time.monotonic()
    problems.add("image", "down once more", is_of_server=True)
    problems.forget_of_server(back)
    assert [one["message"] for one in problems.documents()] == ["down once more", "damaged"]


def test_nobody_there_is_a_problem_and_clicks_go_on(tmp_path: Path) -> None:
    learning, problems = learning_of(f"http://127.0.0.1:{free_port()}", tmp_path)
    (told,) = problems()
    assert "cannot reach Label Studio" in told["message"]
    learning.close()
