"""The backend inside the real label-studio-ml 2.x, where that is installed."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import annotation, brush, event, square
from tests.labelstudio_backend.payloads import click, data_url, disk, iou, own, picture_of, request

from sam_plugins.errors import MissingExtraError
from sam_plugins.labelstudio_backend.hosting import (
    basic_auth_of,
    host_app,
    host_class,
)
from sam_plugins.labelstudio_backend.learning.creating import create_learning
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (60, 80)
DISK = disk(SIZE, (40, 30), 15)
needs_host = pytest.mark.skipif(
    importlib.util.find_spec("label_studio_ml") is None,
    reason="label-studio-ml 2.x is not installed; PyPI has only 1.0.9, so it comes from its "
    "repository: pip install git+https://github.com/HumanSignal/label-studio-ml-backend.git",
)


@pytest.mark.skipif(
    importlib.util.find_spec("label_studio_ml") is not None, reason="label-studio-ml is installed"
)
def test_without_label_studio_ml_the_cure_is_told(service: Service) -> None:
    with pytest.raises(MissingExtraError, match="needs its version 2, which PyPI does not have"):
        host_class(service)
    with pytest.raises(MissingExtraError, match="needs its version 2, which PyPI does not have"):
        host_app(service)


@pytest.fixture
def its_server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """label-studio-ml's one application of a process as it was."""
    # When it is imported it makes its cache, for all tests: in MODEL_DIR, or where they are run.
    folder = tmp_path_factory.mktemp("label-studio-ml")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MODEL_DIR", str(folder))
    api = importlib.import_module("label_studio_ml.api")
    monkeypatch.setattr(api, "BASIC_AUTH", None)
    monkeypatch.setattr(api._server, "wsgi_app", api._server.wsgi_app)


@pytest.fixture
def client(service: Service, its_server: None) -> Any:
    """A client of label-studio-ml's own server."""
    learning = create_learning(service.settings, service)
    yield host_app(service, learning=learning).test_client()
    assert learning.status()["events_waiting"] == 1
    learning.close()


@pytest.mark.parametrize(
    ("options", "variables", "settings", "wanted"),
    [
        ({}, (), {}, None),
        ({}, (), {"user": "me", "password": "sesame"}, ("me", "sesame")),
        ({}, ("them", "open"), {}, ("them", "open")),
        ({}, ("them", "open"), {"user": "me", "password": "sesame"}, ("them", "open")),
        ({}, ("them", "open"), {"password": "sesame"}, ("them", "open")),
        ({"basic_auth_pass": "shut"}, ("them", "open"), {}, ("them", "shut")),
        ({}, ("them", ""), {"user": "me", "password": "sesame"}, ("me", "sesame")),
        ({}, ("them", ""), {}, None),
    ],
)
def test_one_password_is_asked_for(
    options: dict[str, str],
    variables: tuple[str, ...],
    settings: dict[str, Any],
    wanted: tuple[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in zip(("BASIC_AUTH_USER", "BASIC_AUTH_PASS"), variables, strict=False):
        monkeypatch.setenv(name, value)
    found = basic_auth_of(options, Settings(**settings))
    names = ("basic_auth_user", "basic_auth_pass")
    assert found == ({} if wanted is None else dict(zip(names, wanted, strict=True)))


@pytest.mark.parametrize("settings", [{"user": "me"}, {"password": "sesame"}])
def test_half_a_password_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="set both SAM_PLUGINS_LS_USER and SAM_PLUGINS_LS_PASS"):
        basic_auth_of({}, Settings(**settings))  # type: ignore[arg-type]


@needs_host
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_name_does_only_where_its_server_asks_for_a_password(
    make_service: MakeService, its_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(service: Service, auth: tuple[str, str] | None = None) -> int:
        client = host_app(service).test_client()
        page = {"Accept-Language": "en"}
        return client.get(
            "/health", base_url="http://rebound.example", headers=page, auth=auth
        ).status_code

    with monkeypatch.context() as variables:
        variables.setenv("BASIC_AUTH_USER", "them")
        variables.setenv("BASIC_AUTH_PASS", "open")
        assert asked(make_service()) == 401
        assert asked(make_service(), ("them", "open")) == 200
    mine = make_service(user="me", password="sesame")
    assert asked(mine) == 401
    assert asked(mine, ("me", "sesame")) == 200
    monkeypatch.setattr("label_studio_ml.api.BASIC_AUTH", None)
    assert asked(make_service()) == 403


@needs_host
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_its_server_hands_setups_clicks_batches_and_events_on(
    client: Any, service: Service
) -> None:
    assert client.get("/health").json["status"] == "UP"
    setup = {"project": "7.1795850291", "schema": own(), "hostname": "h", "access_token": "t"}
    version = client.post("/setup", json=setup).json["model_version"]
    assert version.startswith("default-")
    foreign = client.post("/setup", json=setup, headers={"Origin": "http://evil.example"})
    assert (foreign.status_code, "another site" in foreign.json["detail"]) == (403, True)
    url = data_url(picture_of(DISK))
    asked = request([click(40, 30, size_hw=SIZE)], own(), url=url, project="7.1795850291")
    (result,) = client.post("/predict", json=asked).json["results"]
    (region,) = regions_of(result["result"])
    assert iou(mask_of(region, SIZE), DISK) > 0.8
    assert result["model_version"] == version
    batch = request(None, own(), url=url, project="7.1795850291")
    broken = request(None, own(), url="data:image/png;base64,AAAA")["tasks"][0] | {"id": 2}
    batch["tasks"].append(broken)
    first, second = client.post("/predict", json=batch).json["results"]
    assert first["result"]
    assert second["result"] == []
    one = annotation(1, 1, [brush("aaaaaaaaaa", square(2, 2))])
    assert client.post("/webhook", json=event("ANNOTATION_CREATED", one)).status_code == 201
    extra = json.dumps({"output": "polygon"})
    client.post("/setup", json={**setup, "extra_params": extra})
    (result,) = client.post("/predict", json=asked).json["results"]
    assert result["result"][0]["type"] == "brushlabels"  # the config has no polygon
    assert service.projects.get("7.1795850291").settings.output == "polygon"
