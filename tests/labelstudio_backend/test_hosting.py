"""The backend inside the real label-studio-ml 2.x, where that is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tests.labelstudio_backend.learning.helpers import annotation, brush, event, square
from tests.labelstudio_backend.payloads import click, data_url, disk, iou, own, picture_of, request

from sam_plugins.errors import MissingExtraError
from sam_plugins.labelstudio_backend.hosting import host_app, host_class
from sam_plugins.labelstudio_backend.learning.creating import create_learning
from sam_plugins.labelstudio_backend.service import Service
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
def client(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of label-studio-ml's own server."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    learning = create_learning(service.settings, service)
    yield host_app(service, learning=learning).test_client()
    assert learning.status()["events_waiting"] == 1
    learning.close()


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
