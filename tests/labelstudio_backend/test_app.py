"""The routes: what is answered, who may ask, what is refused and how."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import click, data_url, disk, own, picture_of, request

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.label_config import PROMPTS
from sam_plugins.labelstudio_backend.logs import LOG, LogFormatter
from sam_plugins.labelstudio_backend.models import version_of
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.status_page import render_status

SIZE = (60, 80)
PICTURE = data_url(picture_of(disk(SIZE, (40, 30), 15)))
ROUTES = (
    ("GET", "/"),
    ("HEAD", "/health"),
    ("GET", "/health"),
    ("POST", "/setup"),
    ("POST", "/predict"),
    ("POST", "/webhook"),
    ("POST", "/webhook/guess"),
    ("GET", "/versions"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
)


class Learner:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def on_webhook(self, payload: dict[str, Any]) -> None:
        self.events.append(payload)

    def versions(self, project: str | None) -> list[str]:
        return [f"cells@1 of {project}"]

    def status(self) -> dict[str, Any]:
        return {"events": len(self.events)}


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def test_health_and_setup_answer_at_once(client: FlaskClient) -> None:
    began = time.perf_counter()
    assert client.get("/health").json == {**(client.get("/").json or {}), "status": "UP"}
    body = {"project": "1.17", "schema": own(), "hostname": "http://x", "access_token": "t"}
    first = client.post("/setup", json=body).json
    assert time.perf_counter() - began < 1
    assert first == client.post("/setup", json=body).json
    assert isinstance(first, dict)
    assert first["model_version"].startswith("default-")


@pytest.mark.parametrize("route", ["/setup", "/webhook", "/predict"])
def test_pages_of_other_sites_cannot_ask(make_service: MakeService, route: str) -> None:
    service = make_service(url="http://studio.example:8080")
    client = create_app(service.settings, service=service).test_client()
    body = {"project": "1.17", "action": "X", "tasks": [], "label_config": own()}

    def post(kind: str, origin: str | None = None) -> tuple[int, str]:
        headers = {} if origin is None else {"Origin": origin}
        answer = client.post(route, data=json.dumps(body), content_type=kind, headers=headers)
        return answer.status_code, (answer.json or {}).get("detail", "")

    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        code, reason = post(kind)
        assert (code, "Content-Type: application/json" in reason) == (415, True)
    for origin in ("http://evil.example", "null", "http://localhost:81", "http://[", ""):
        code, reason = post("application/json", origin)
        assert (code, "another site" in reason) == (403, True)
        assert client.get("/health", headers={"Origin": origin}).status_code == 403
    for ours in (None, "http://localhost", "http://studio.example:8080"):
        assert post("application/json; charset=utf-8", ours)[0] == 200


@pytest.mark.parametrize("is_text", [False, True])
def test_a_project_names_models_and_no_files(
    make_service: MakeService, tmp_path: Path, is_text: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("nobody shall know", encoding="utf-8")
    service = make_service()
    client = create_app(service.settings, service=service).test_client()

    def version(model: str) -> str:
        extra: Any = {"model": model, "min_area": 5}
        body = {"project": "7.1", "extra_params": json.dumps(extra) if is_text else extra}
        return str((client.post("/setup", json=body).json or {})["model_version"])

    ours = service.model_version("1.1")
    for path in (str(secret), "/dev/zero", ".", "../secret"):
        assert version(path) == ours
        (told, *_) = (client.get("/status").json or {})["problems"]
        assert "model must be the name of" in told["message"]
        assert service.projects.get("7.1").settings.min_area == 5
    assert version("mobile_sam").startswith("mobile_sam")
    assert version("cells@3") == "cells@3"


def test_a_file_that_the_operator_chose_may_be_named_again(
    make_service: MakeService, tmp_path: Path
) -> None:
    own_file = tmp_path / "cells.pt"
    own_file.write_bytes(b"weights")
    service = make_service(model=str(own_file))
    service.setup({"project": "7.1", "extra_params": {"model": str(own_file)}})
    assert not service.projects.get("7.1").complaint
    assert version_of("/dev/zero") == "zero"


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_every_route_asks_for_the_password(
    make_service: MakeService, method: str, route: str
) -> None:
    service = make_service(user="me", password="open sesame", webhook_secret="s3cret")
    client = create_app(service.settings, service=service).test_client()
    for headers in ({}, basic("me", "wrong"), {"Authorization": "Bearer x"}, basic("", "")):
        response = client.open(route, method=method, headers=headers, json={})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Basic")
    passed = client.open(route, method=method, headers=basic("me", "open sesame"), json={})
    assert passed.status_code != 401


def test_a_webhook_may_come_by_its_secret_address(make_service: MakeService) -> None:
    service = make_service(user="me", password="open sesame", webhook_secret="s3cret")
    learner = Learner()
    client = create_app(service.settings, service=service, learning=learner).test_client()
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
    assert client.post("/webhook/s3cret", json=event).status_code == 200
    assert client.post("/webhook/s3cret2", json=event).status_code == 401
    assert learner.events == [event]


def test_events_versions_and_status_go_to_who_learns(make_service: MakeService) -> None:
    service = make_service()
    learner = Learner()
    client = create_app(service.settings, service=service, learning=learner).test_client()
    assert client.post("/webhook", json={"action": "TASKS_DELETED"}).json == {"status": "queued"}
    assert client.post("/webhook", json={"no": "action"}).status_code == 400
    assert client.get("/versions?project=1.2").json == {"versions": ["cells@1 of 1.2"]}
    assert (client.get("/status").json or {})["learning"] == {"events": 1}


@pytest.mark.parametrize("given", ["/sam", "/sam/"])
def test_a_backend_answers_below_its_prefix_and_without_it(
    make_service: MakeService, given: str
) -> None:
    service = make_service(prefix=given, webhook_secret="s3cret", user="u", password="p")
    client = create_app(service.settings, service=service).test_client()
    allowed = basic("u", "p")
    for path in ("/health", "/sam/health", "/sam/", "/sam", "/sam/status", "/sam/versions"):
        assert client.get(path, headers=allowed).status_code == 200, path
        assert client.get(path).status_code == 401, path
    body = request([click(40, 30, size_hw=SIZE)], own(), url=PICTURE)
    assert client.post("/sam/predict", json=body, headers=allowed).status_code == 200
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
    assert client.post("/sam/webhook/s3cret", json=event).status_code == 200
    for path in ("/samples/health", "/sam/sam/health", "/other/health"):
        assert client.get(path, headers=allowed).status_code == 404, path


@pytest.mark.parametrize("wrong", ["sam", "/a b", "/sam?x", "//", "http://host/sam"])
def test_a_prefix_that_is_no_path_is_refused(wrong: str) -> None:
    with pytest.raises(
        ValueError, match="path below which a proxy shows the backend, such as /sam"
    ):
        Settings(prefix=wrong)


def test_the_status_page_is_escaped_and_shows_problems(
    client: FlaskClient, service: Service
) -> None:
    service.problems.add("image", "<script>alert(1)</script> is no picture")
    page = client.get("/status", headers={"Accept": "text/html"}).text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "sam_plugins_requests_total" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "must be a JSON object, got list"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "tasks must be a list"),
        (b'{"tasks": [1]}', r"tasks\[0\] must be an object"),
        (b'{"tasks": [{"id": 1}]}', r"tasks\[0\].data must be an object"),
        (b'{"tasks": [], "params": []}', "params must be an object"),
        (b'{"tasks": [], "params": {"context": {"result": []}}}', "must hold one task, got 0"),
        (b'{"tasks": [{"data": {}}], "params": {"context": 1}}', "params.context must be"),
        (b'{"tasks": [], "label_config": 3}', "label_config must be a text"),
        (b'{"tasks": [], "project": {}}', "project must be a text"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, body: bytes, reason: str
) -> None:
    with caplog.at_level(logging.INFO, logger=LOG.name):
        response = client.post("/predict", data=body, content_type="application/json")
    assert response.status_code == 400
    assert re.search(reason, (response.json or {})["detail"])
    assert re.search(reason, vars(caplog.records[-1])["refused"])
    (told,) = (client.get("/status").json or {})["problems"]
    assert told["kind"] == "request"
    assert re.search(f"/predict was refused: .*{reason}", told["message"])
    assert 'sam_plugins_problems_total{kind="request"} 1.0' in client.get("/metrics").text
    assert (response.json or {})["request_id"] == response.headers["X-Request-ID"]


def test_a_request_that_is_too_large_is_refused(make_service: MakeService) -> None:
    service = make_service(max_body_mib=0.01)
    client = create_app(service.settings, service=service).test_client()
    assert client.post("/predict", data=b"x" * 20_000).status_code == 413


def test_a_request_of_15_megabytes_is_answered(client: FlaskClient) -> None:
    region = {"type": "brushlabels", "id": "a", "value": {"rle": [255] * 3_700_000}}
    body = request(
        [click(40, 30, size_hw=SIZE)], own(), url=PICTURE, annotations=[{"result": [region]}]
    )
    data = json.dumps(body).encode()
    assert len(data) > 15e6
    response = client.post("/predict", data=data, content_type="application/json")
    assert response.status_code == 200
    assert len((response.json or {})["results"][0]["result"]) == 1


def test_logs_hold_the_request_and_no_secret(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(user="me", password="open sesame", api_key="a1b2c3d4e5f6")
    client = create_app(service.settings, service=service).test_client()
    setup = {"project": "1", "access_token": "token-of-setup", "schema": own()}
    with caplog.at_level(logging.INFO, logger=LOG.name):
        headers = {**basic("me", "open sesame"), "X-Request-ID": "abc123"}
        client.post("/setup", json=setup, headers=headers)
        service.problems.add("x", "y")
        LOG.info("sent Authorization: Token 0123456789abcdef to http://u:pw@host/?token=zzz")
    formatter = LogFormatter(secrets=["open sesame", "a1b2c3d4e5f6"])
    lines = [formatter.format(record) for record in caplog.records]
    told = next(one for one in map(json.loads, lines) if one["message"] == "request")
    assert (told["route"], told["status"]) == ("setup", 200)
    for secret in ("open sesame", "a1b2c3d4", "token-of-setup", "0123456789", "pw@", "zzz"):
        assert secret not in "".join(lines)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["Cell", "keypointlabels", "brush", "labels", "textarea", PICTURE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["value", "x", "y", "width", "height", "rle", "points", "id", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KINDS = [f"{shape}{end}" for shape in (*PROMPTS, "textarea") for end in ("", "labels")]
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | ANY,
        "value": st.fixed_dictionaries(
            {},
            optional={
                key: st.floats() | st.integers(-200, 200) | ANY
                for key in ("x", "y", "width", "height", "rotation", "radiusX", "radiusY")
            }
            | dict.fromkeys(("rle", "points", "imageDataURL", "labels", "text"), ANY)
            | {"keypointlabels": ANY},
        )
        | ANY,
        "id": ANY,
        "from_name": ANY,
        "to_name": ANY,
        "is_positive": ANY,
        "item_index": ANY,
        "image_rotation": st.sampled_from([0, 90, 45, -90, None]) | ANY,
        "original_width": ANY,
    },
)


@given(st.lists(ITEM | ANY, max_size=4), ANY, st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_sent_is_no_internal_error(
    client: FlaskClient, items: list[Any], other: Any, is_whole: bool
) -> None:
    body: Any = request(items, own(), url=PICTURE)
    if not is_whole:
        body["tasks"][0]["drafts"] = other
        body["tasks"][0]["data"] = other if isinstance(other, dict) else {"image": other}
    response = client.post("/predict", data=json.dumps(body), content_type="application/json")
    assert response.status_code in {200, 400}, response.text
    if response.status_code == 200:
        (result,) = (response.json or {})["results"]
        assert isinstance(result["result"], list)
    problems = (client.get("/status").json or {})["problems"]
    assert not [one for one in problems if one["kind"] == "internal"], problems[0]


def test_the_page_shows_what_lies_deeper_as_tables_not_as_code() -> None:
    project = {
        "regions_left_out": {"a rectangle is no mask": 3},
        "trainings": [{"state": "failed", "message": "<too few>"}],
    }
    page = render_status({"learning": {"projects": {"7.1": project}}})
    assert "a rectangle is no mask: 3" in page
    assert "<td>&lt;too few&gt;</td>" in page
    assert "{" not in page.partition("</style>")[2]


def test_people_read_times_and_not_seconds() -> None:
    page = render_status({"trainings": [{"started_at": 1795909551.4, "ended_at": None}], "a_at": 0})
    assert "2026-11-28 23:45:51 UTC" in page
    assert "1795909551" not in page
    assert "<td>never</td>" in page


def test_the_page_begins_with_problems_and_tells_figures_for_people() -> None:
    progress = {"step": 3, "seconds_left": 111.98961598, "loss": 6.6652617, "measuring": None}
    page = render_status(
        {
            "projects": [{"project": "7.1"}],
            "trainings": [
                {"progress": progress, "curve": [(1, 7.337062), (2, 6.9)], "v": ["<", 2]}
            ],
            "problems": [{"kind": "image", "message": "damaged"}],
        }
    )
    assert page.index("<h2>problems</h2>") < page.index("<h2>projects</h2>")
    assert "step: 3; seconds left: 112; loss: 6.665</td>" in page
    assert "<td>1: 7.337, 2: 6.9</td><td>&lt;, 2</td>" in page
