"""Each cause of "connected, but nothing happens" is made on a real server, found and mended."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask, Response, abort, jsonify, request
from PIL import Image
from pydantic import SecretStr
from tests.labelstudio_backend.server import TOKEN, LabelStudio, free_port, running
from tests.labelstudio_backend.serving import served
from werkzeug.serving import make_server

from sam_plugins.cli import main
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.labelstudio_backend.doctor.connections import is_dotless
from sam_plugins.labelstudio_backend.doctor.contents import examine_config
from sam_plugins.labelstudio_backend.doctor.examination import examine
from sam_plugins.labelstudio_backend.doctor.findings import Finding
from sam_plugins.labelstudio_backend.doctor.tokens import examine_server, examine_token, kind_of
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings

CONFIG = (
    '<View><Image name="image" value="$image"/><KeyPointLabels name="kp" toName="image" '
    'smart="true"><Label value="Cell"/></KeyPointLabels><BrushLabels name="label" '
    'toName="image"><Label value="Cell"/></BrushLabels></View>'
)
NO_ANSWER = (
    '<View><Image name="image" value="$image"/><KeyPointLabels name="kp" toName="image" '
    'smart="true"><Label value="Cell"/></KeyPointLabels></View>'
)


def jwt(**claims: Any) -> str:
    """A token that says so."""
    parts = [{"alg": "none"}, claims]
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    ) + ".x"  # fmt: skip


@contextmanager
def backend(settings: Settings) -> Iterator[str]:
    """A backend that listens; its address."""
    service = Service(settings, load=lambda _: None)  # nobody clicks
    service._loader.join()
    server = make_server(
        "127.0.0.1", free_port(), create_app(settings, service=service), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        service.close()


def problems(findings: list[Finding]) -> list[str]:
    """What is wrong."""
    return [finding.message for finding in findings if not finding.is_ok]


# ------------------------------------------------------------------------------ without a server


def test_kinds_of_tokens_are_told_apart() -> None:
    assert kind_of("a" * 40) == ("legacy", None)
    assert kind_of(jwt(token_type="refresh", exp=12)) == ("personal access", 12.0)
    assert kind_of(jwt(token_type="access", exp=12)) == ("access", 12.0)
    assert kind_of("a.b.c") == ("legacy", None)


def test_useless_tokens_are_told_without_asking_anybody() -> None:
    def said(token: str) -> str:
        (finding,) = examine_token("http://127.0.0.1:9", token)
        assert not finding.is_ok
        assert "make a personal access token" in finding.cure
        return finding.message

    assert "has no token" in said("")
    assert "lives five minutes" in said(jwt(token_type="access", exp=time.time() + 60))
    assert "expired on 1970-01-01" in said(jwt(token_type="refresh", exp=12))


def test_a_token_that_the_account_page_shortened_is_known() -> None:
    whole = jwt(token_type="refresh", exp=time.time() + 1e6)
    (finding,) = examine_token("http://127.0.0.1:9", whole.rpartition(".")[0])
    assert "the beginning of a personal access token" in finding.message
    assert "copy that from the window that opens" in finding.cure


def test_a_server_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (finding,) = examine_server(url)
    assert "cannot be reached" in finding.message
    assert main(["labelstudio", "doctor", url, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["topic"] == "Label Studio"


def test_host_names_without_a_dot() -> None:
    assert is_dotless("http://sam_backend:9090")
    assert not is_dotless("http://host.docker.internal:9090")


@pytest.mark.parametrize(
    ("connected", "examined"), [({40, 130}, {40, 130}), (set(), {1})], ids=["some", "none"]
)
def test_without_a_number_all_projects_with_a_backend_are_examined(
    connected: set[int], examined: set[int], tmp_path: Path
) -> None:
    """Label Studio 1.23 has pages of at most 100 projects, and tells the backends of one."""
    projects = [{"id": number, "label_config": CONFIG} for number in range(1, 131)]
    app = Flask(__name__)

    @app.get("/api/version")
    def version() -> Response:
        return jsonify({"release": "1.23.2"})

    @app.get("/api/current-user/whoami")
    def user() -> Response:
        return jsonify({"id": 1, "email": "a@example.com"})

    @app.get("/api/projects/")
    def page() -> Response:
        size = min(100, int(request.args.get("page_size", 30)))
        start = (int(request.args.get("page", 1)) - 1) * size
        if start >= len(projects):
            abort(404)
        after = f"?page={start // size + 2}" if start + size < len(projects) else None
        return jsonify({"next": after, "results": projects[start : start + size]})

    @app.get("/api/ml")
    def backends() -> Response:
        number = request.args.get("project", type=int)
        if number not in {one["id"] for one in projects}:
            abort(404)
        return jsonify([row(number).json] if number in connected else [])

    @app.get("/api/ml/<int:number>")
    def row(number: int) -> Response:
        return jsonify({"id": number, "project": number, "url": "http://127.0.0.1:9"})

    @app.get("/api/webhooks/")
    def hooks() -> Response:
        return jsonify([])

    @app.get("/api/tasks/")
    def tasks() -> Response:
        return jsonify({"tasks": [], "total": 0})

    with served(app) as url:
        settings = Settings(url=url, api_key=SecretStr(TOKEN), folder=tmp_path / "doctor")
        findings = list(examine(settings))
    assert not any("404" in message for message in problems(findings))
    topics = [one.topic for one in findings if one.topic.startswith("labelling config of")]
    assert {int(topic.split()[-1]) for topic in topics} == examined


# --------------------------------------------------------------------------------- with a server


@pytest.fixture
def project(label_studio: LabelStudio, tmp_path: Path) -> int:
    number = int(label_studio.make_project(CONFIG, "For the doctor")["id"])
    Image.new("L", (32, 24), 90).save(tmp_path / "a.png")
    label_studio.upload(number, [tmp_path / "a.png"])
    return number


def looked(server: LabelStudio, tmp_path: Path, project: int, **others: Any) -> list[Finding]:
    """Examine a project."""
    chosen = {name: others.pop(name) for name in ("user", "password") if name in others}
    settings = Settings(
        url=server.url, api_key=SecretStr(others.pop("token", TOKEN)), folder=tmp_path / "doctor",
        **chosen,
    )  # fmt: skip
    return list(examine(settings, project=project, **others))


@pytest.mark.server
def test_a_healthy_backend_has_nothing_to_do(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    with backend(Settings(folder=tmp_path / "backend")) as url:
        label_studio.connect(project, url)
        findings = looked(label_studio, tmp_path, project)
    assert problems(findings) == []
    told = " ".join(finding.message for finding in findings)
    assert "the legacy token of annotator@example.com works" in told
    assert "1 of the first 1 tasks' pictures can be read" in told


@pytest.mark.server
def test_a_project_with_a_backend_is_found_without_its_number(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    with backend(Settings(folder=tmp_path / "backend")) as url:
        label_studio.connect(project, url)
        settings = Settings(
            url=label_studio.url, api_key=SecretStr(TOKEN), folder=tmp_path / "doctor"
        )
        findings = list(examine(settings))
    assert not any("404" in message for message in problems(findings))
    assert f"labelling config of project {project}" in {one.topic for one in findings}


@pytest.mark.server
def test_a_wrong_token_and_a_wrong_number_are_told_apart(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    findings = looked(label_studio, tmp_path, project, token="1" * 40)
    (wrong,) = [one for one in findings if not one.is_ok]
    assert "it knows no such token" in wrong.message
    assert "legacy" not in wrong.cure
    (said,) = problems(looked(label_studio, tmp_path, 9999))
    assert "sees no project 9999; its number stands in its address" in said


@pytest.mark.server
def test_missing_switched_off_and_refused_webhooks_are_mended(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    secret = {"user": "team", "password": SecretStr("pass")}
    with backend(Settings(folder=tmp_path / "backend", **secret)) as url:
        label_studio.connect(
            project, url, auth_method="BASIC_AUTH", basic_auth_user="team", basic_auth_pass="pass"
        )
        (said,) = problems(looked(label_studio, tmp_path, project))
        assert "the backend refuses events" in said
        findings = looked(label_studio, tmp_path, project, is_repairing=True, **secret)
        assert problems(findings) == []
        (hook,) = label_studio.call("GET", f"/api/webhooks/?project={project}")
        sent = requests.post(hook["url"], json={"action": "X"}, headers=hook["headers"], timeout=9)
        assert sent.status_code == 200

        change = {"is_active": False, "send_payload": False}
        label_studio.call("PATCH", f"/api/webhooks/{hook['id']}/", json=change)
        (said,) = problems(looked(label_studio, tmp_path, project, **secret))
        assert said == "it is switched off; it sends no payload"
        assert not problems(looked(label_studio, tmp_path, project, is_repairing=True, **secret))

        label_studio.call("DELETE", f"/api/webhooks/{hook['id']}/")
        (said,) = problems(looked(label_studio, tmp_path, project, **secret))
        assert "gets no events: Label Studio made no webhook" in said
        assert not problems(looked(label_studio, tmp_path, project, is_repairing=True, **secret))
        assert not problems(looked(label_studio, tmp_path, project, **secret))


@pytest.mark.server
def test_connections_that_lack_or_double_something_are_mended(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    with backend(Settings(folder=tmp_path / "backend")) as url:
        assert problems(looked(label_studio, tmp_path, project)) == ["no backend is connected"]
        findings = looked(label_studio, tmp_path, project, backend_url=url, is_repairing=True)
        assert problems(findings) == []
        label_studio.connect(project, url, is_interactive=False)
        assert any("2 times" in one for one in problems(looked(label_studio, tmp_path, project)))
        assert not problems(looked(label_studio, tmp_path, project, is_repairing=True))
    (said, event) = problems(looked(label_studio, tmp_path, project))
    assert "Label Studio does not reach" in said
    assert "a test event does not arrive" in event


@pytest.mark.server
def test_unreadable_pictures_and_a_config_without_answers_are_told(
    label_studio: LabelStudio, tmp_path: Path, project: int
) -> None:
    label_studio.call(
        "POST", f"/api/projects/{project}/import", json=[{"image": "http://127.0.0.1:9/x.png"}]
    )
    label_studio.call("PATCH", f"/api/projects/{project}/", json={"label_config": NO_ANSWER})
    findings = looked(label_studio, tmp_path, project)
    assert "task" in " ".join(problems(findings))
    topics = {finding.topic.split(" of ")[0] for finding in findings if not finding.is_ok}
    assert {"pictures", "labelling config"} <= topics


@pytest.mark.parametrize(
    ("shapes", "is_learning"),
    [
        ("Rectangle", False),
        ("Ellipse", True),
        ("Polygon", True),
        ("Brush", True),
    ],
)
def test_a_project_that_learns_nothing_is_told(shapes: str, is_learning: bool) -> None:
    config = (
        f'<View><Image name="image" value="$image"/><{shapes}Labels name="s" toName="image">'
        f'<Label value="Cell"/></{shapes}Labels><KeyPoint name="kp" toName="image"/>'
        '<Choices name="c" toName="image"><Choice value="good"/></Choices></View>'
    )
    findings = list(examine_config({"id": 3, "label_config": config}, "auto"))
    told = [one for one in findings if one.topic == "learning of project 3"]
    assert [one.message for one in told] == (
        []
        if is_learning
        else ["'image' is answered, but the model learns nothing from it: a rectangle is no mask"]
    )
    assert all(one.is_ok and "add <BrushLabels>" in one.cure for one in told)
    report = check_config(config)
    said = " ".join([*report.means, *report.advice, *report.problems])
    assert ("learns from" in said) == is_learning


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_blocked_local_addresses_and_disabled_legacy_tokens_are_told(tmp_path: Path) -> None:
    strict = {"ML_BLOCK_LOCAL_IP": "true", "SSRF_PROTECTION_ENABLED": "true"}
    with running(tmp_path / "data", **strict) as server:
        number = int(server.make_project(CONFIG, "Strict")["id"])
        with backend(Settings(folder=tmp_path / "backend")) as url:
            findings = looked(server, tmp_path, number, backend_url=url, is_repairing=True)
        (refused,) = [finding for finding in findings if "cannot be connected" in finding.message]
        assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false" in refused.cure
        assert server.call("GET", f"/api/ml?project={number}") == []

        personal = server.personal_token()
        switched = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
        server.call("POST", "/api/jwt/settings", json=switched)
        (refused,) = [one for one in looked(server, tmp_path, number) if not one.is_ok]
        assert "legacy tokens are disabled" in refused.message
        assert "allow legacy tokens again" in refused.cure
        findings = looked(server, tmp_path, number, token=personal)
        assert "the personal access token of annotator@example.com works" in findings[1].message


def test_an_address_without_a_scheme_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["labelstudio", "doctor", "localhost:8080"]) != 0
    told = capsys.readouterr().err
    assert "the address of Label Studio must start with http:// or https://" in told
    assert "pydantic" not in told
