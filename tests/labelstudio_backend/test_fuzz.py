"""Whatever comes to /setup, /webhook and /predict is answered, and never with 500."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import PROJECT, learning_at
from tests.labelstudio_backend.payloads import own

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.events import _HANDLERS

MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBER = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 9)
TEXT = st.text(st.characters(), max_size=6) | st.sampled_from(
    ["", "7", "7.1795850291", "\ud800", "\x00", "1" * 300, "7." + "9" * 30, "http://x", "{"]
)
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
ANY = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def mapping(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each as it should be or something else."""
    return st.fixed_dictionaries({}, optional={key: one | ANY for key, one in fields.items()})


NOTED = mapping(
    id=NUMBER,
    title=TEXT,
    created_at=st.sampled_from([PROJECT["created_at"], "yesterday", "9999-99-99T00:00:00Z"]),
    label_config=st.just(own()),
)
REGION = mapping(
    id=TEXT,
    type=st.sampled_from(["brushlabels", "polygonlabels", "keypointlabels"]),
    value=mapping(rle=st.lists(st.integers(0, 255), max_size=6), points=ANY, brushlabels=ANY),
    original_width=NUMBER,
    original_height=NUMBER,
    from_name=TEXT,
    to_name=TEXT,
)
ANNOTATION = mapping(
    id=NUMBER,
    task=NUMBER,
    result=st.lists(REGION | ANY, max_size=2),
    was_cancelled=st.booleans(),
    completed_by=NUMBER | mapping(id=NUMBER, email=TEXT),
    updated_at=st.sampled_from(["2026-11-28T08:00:00.000000Z", "", "9999-12-31T23:59:59-99:00"]),
    lead_time=NUMBER,
)
TASK = mapping(id=NUMBER, data=mapping(image=TEXT))
EVENT = mapping(
    action=st.sampled_from([*_HANDLERS, "PROJECT_UPDATED", "TASKS_CREATED"]),
    project=st.sampled_from(["7", 7, PROJECT]) | NOTED,
    annotation=ANNOTATION,
    annotations=st.lists(ANNOTATION | ANY, max_size=2),
    task=TASK,
    tasks=st.lists(TASK | ANY, max_size=2),
    reason=TEXT,
)
SETUP = mapping(
    project=st.sampled_from(["7.1795850291", 7]),
    schema=st.just(own()) | TEXT,
    hostname=TEXT,
    access_token=TEXT,
    extra_params=mapping(output=st.just("polygon"), model=TEXT, min_area=NUMBER, automatic=ANY)
    | st.just('{"output": "polygon"}'),
)
PREDICT = mapping(
    tasks=st.lists(TASK | ANY, max_size=2),
    project=st.just("7.1795850291"),
    label_config=st.just(own()) | TEXT,
    params=mapping(context=mapping(result=st.lists(REGION | ANY, max_size=2))),
)


@pytest.fixture
def learning(tmp_path: Path) -> Iterator[BackendLearning]:
    made = learning_at(tmp_path / "learning")
    yield made
    made.close()


@pytest.fixture
def ask(
    make_service: MakeService, learning: BackendLearning
) -> Callable[[str, Any], tuple[int, Any]]:
    """Post a body; the status and what was answered."""
    service = make_service(open_seconds=20, batch_seconds=20)
    client: FlaskClient = create_app(
        service.settings, service=service, learning=learning
    ).test_client()

    def post(path: str, body: Any) -> tuple[int, Any]:
        response = client.post(path, data=json.dumps(body), content_type="application/json")
        assert response.status_code in {200, 400}, f"{body!r}: {response.text}"
        assert isinstance(response.json, dict)
        page = client.get("/status", headers={"Accept": "text/html"})
        assert page.status_code == 200, page.text
        problems = (client.get("/status").json or {})["problems"]
        assert not [one for one in problems if one["kind"] == "internal"], problems[0]
        return response.status_code, response.json

    return post


@given(SETUP | ANY)
@example({"project": "7", "extra_params": {"model": ""}})
@example({"project": "7", "extra_params": {"model": "."}})
@example({"project": "7", "extra_params": {"model": "a\0b"}})
@example({"project": "\ud800", "hostname": "\udc00\ud83d\ude00"})
@MANY
def test_any_setup_is_answered(ask: Callable[[str, Any], tuple[int, Any]], body: Any) -> None:
    status, answer = ask("/setup", body)
    if status == 200:
        assert isinstance(answer["model_version"], str)
        assert answer["model_version"]


@given(EVENT | ANY)
@example({"action": "ANNOTATION_CREATED", "project": 7, "annotation": {"id": 1, "task": 1}})
@example({"action": "ANNOTATIONS_CREATED", "project": {"id": -(2**70)}})
@MANY
def test_any_event_is_taken_and_never_holds_up_the_next(
    ask: Callable[[str, Any], tuple[int, Any]], learning: BackendLearning, body: Any
) -> None:
    ask("/webhook", body)
    learning.work()
    status = learning.status()
    assert status["events_waiting"] == 0, (body, status["errors"])
    assert not [one for one in status["errors"] if "learning.sqlite" in one["message"]], body


@given(PREDICT | ANY)
@MANY
def test_any_question_is_answered(ask: Callable[[str, Any], tuple[int, Any]], body: Any) -> None:
    status, answer = ask("/predict", body)
    if status == 200:
        assert len(answer["results"]) == len(body["tasks"])
        for result in itertools.chain(answer["results"]):
            assert isinstance(result, dict | list)


@pytest.mark.parametrize("path", ["/setup", "/webhook", "/predict"])
@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"nul", b"[" * 100_000, b'{"a":' * 5000])
def test_what_is_no_json_is_a_mistake_of_who_sends_it(
    client: FlaskClient, path: str, body: bytes
) -> None:
    response = client.post(path, data=body, content_type="application/json")
    assert response.status_code == 400
    assert "must be a JSON object" in (response.json or {})["detail"]
