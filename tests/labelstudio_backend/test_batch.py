"""Predictions of whole pictures: one for each task, whatever happens to the others."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import (
    click,
    data_url,
    disk,
    iou,
    own,
    picture_of,
    request,
    shared,
)

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.config_check import check_config
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.io.label_studio import mask_of, regions_of

SIZE = (120, 160)
DISK = disk(SIZE, (60, 50), 25)
PICTURE = data_url(picture_of(DISK))


def predicted(client: FlaskClient, body: dict[str, Any]) -> list[Any]:
    """Return the results of a batch."""
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    results: list[Any] = (response.json or {})["results"]
    assert len(results) == len(body["tasks"])
    return results


def test_one_bad_picture_never_spoils_a_batch(client: FlaskClient, service: Service) -> None:
    body = request(None, own(), url=PICTURE)
    for number, data in enumerate(
        (
            {"image": "data:image/png;base64,AAAA"},
            {"image": "http://127.0.0.1:1/x.png"},
            {"other": 1},
            {"image": PICTURE},
        )
    ):
        body["tasks"].append({"id": 10 + number, "data": data})
    first, damaged, down, missing, last = predicted(client, body)
    for good in (first, last):
        assert good["model_version"].startswith("default-")
        assert 0 < good["score"] <= 1
        found = [mask_of(region, SIZE) for region in regions_of(good["result"])]
        assert max(iou(mask, DISK) for mask in found) > 0.85
    assert damaged == missing
    assert damaged["result"] == []
    assert down == []  # it may come back: nothing is stored, and it is asked for again
    assert {one["kind"] for one in service.problems.documents()} == {"image", "prompt"}


@pytest.mark.parametrize(("config", "settings", "label"), [
    (own(), {}, "Cell"),
    (shared(), {}, "Cell"),
    (shared().replace('"Debris"', '"Debris" selected="true"'), {}, "Debris"),
    (own(), {"auto_label": "Debris"}, "Debris"),
])  # fmt: skip
def test_objects_that_the_model_finds_have_a_label(
    make_service: MakeService, config: str, settings: dict[str, str], label: str
) -> None:
    """Without one the editor draws them black on black, and each has to be labelled by hand."""
    service = make_service(open_seconds=60, **settings)
    client = create_app(service.settings, service=service).test_client()
    (found,) = predicted(client, request(None, config, url=PICTURE))
    assert {region.class_name for region in regions_of(found["result"])} == {label}
    told = [line for line in check_config(config).means if "finds by itself" in line]
    assert settings or f'is labelled "{label}"' in told[0]


def test_what_is_not_ready_is_left_out_and_told(make_service: MakeService) -> None:
    service = make_service(open_seconds=0)
    client = create_app(service.settings, service=service).test_client()
    assert predicted(client, request(None, own(), url=PICTURE)) == [[]]
    assert "SAM_PLUGINS_LS_API_KEY" in service.problems.documents()[0]["message"]


def test_two_requests_for_one_task_store_one_prediction(make_service: MakeService) -> None:
    service = make_service(open_seconds=60)
    app = create_app(service.settings, service=service)
    found: list[Any] = []

    def open_task() -> None:
        found.extend(predicted(app.test_client(), request(None, own(), url=PICTURE)))

    threads = [threading.Thread(target=open_task) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, found)) == [False, False, True]

    def counted() -> list[tuple[int, int]]:
        return [(one["done"], one["tasks"]) for one in service.status()["batches"]]

    end = time.monotonic() + 10  # they are counted a moment after they are answered
    while counted() != [(1, 1)] * 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert counted() == [(1, 1)] * 3  # whoever looks would take the others for stuck
    seconds = [one["seconds"] for one in service.status()["batches"]]
    time.sleep(0.2)
    assert [one["seconds"] for one in service.status()["batches"]] == seconds


def test_tasks_are_prepared_where_predictions_are_off(make_service: MakeService) -> None:
    service = make_service(automatic=False, open_seconds=60)
    client = create_app(service.settings, service=service).test_client()
    assert predicted(client, request(None, own(), url=PICTURE)) == [[]]
    assert len(service.parts().engine.pictures) == 1
    assert predicted(client, {**request(None, "", url=PICTURE)}) == [[]]
    assert service.problems.documents()[0]["kind"] == "config"


def test_a_backend_that_ends_answers_the_batch_at_once(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not ready is asked for again; nobody waits for the minute that a batch may take."""
    service = make_service(batch_seconds=90)
    client = create_app(service.settings, service=service).test_client()
    begun, go = threading.Event(), threading.Event()

    def endless(*_: Any) -> Any:
        begun.set()
        go.wait(60)
        raise RuntimeError("it was cut off")

    monkeypatch.setattr(service.parts()._batches._predictor, "_objects", endless)
    body = request(None, own(), url=PICTURE)
    body["tasks"] += [{"id": 10 + number, "data": {"image": PICTURE}} for number in range(8)]
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.extend(predicted(client, body)))
    waiting.start()
    assert begun.wait(60)
    service.drain()
    waiting.join(timeout=20)
    assert found == [[]] * 9
    assert predicted(client, body) == [[]] * 9
    go.set()
    end = time.monotonic() + 10  # what was begun ends now
    while service.status()["batches"][0]["done"] < 9 and time.monotonic() < end:
        time.sleep(0.01)
    newest = service.status()["batches"][0]
    assert (newest["done"], newest["failed"]) == (9, 9)  # what was never begun does not go on
    assert predicted(client, {**body, "tasks": []}) == []
    assert [one["tasks"] for one in service.status()["batches"]] == [9, 9]
    asked = request([click(60, 50, size_hw=SIZE)], own(), url=PICTURE)
    answer = client.post("/predict", json=asked)
    assert len(answer.json["results"][0]["result"]) == 1  # type: ignore[index]
    assert service.problems.documents() == []


def test_a_batch_that_is_asked_twice_is_answered_in_its_time(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(batch_seconds=60)
    client = create_app(service.settings, service=service).test_client()
    begun, go = threading.Event(), threading.Event()

    def waits(*_: Any) -> Any:
        begun.set()
        go.wait(60)
        return [], 0.5

    monkeypatch.setattr(service.parts()._batches._predictor, "_objects", waits)
    body = request(None, own(), url=PICTURE)
    body["tasks"] += [{"id": 10 + number, "data": {"image": PICTURE}} for number in range(11)]
    first = threading.Thread(target=predicted, args=(client, body))
    first.start()
    assert begun.wait(60)
    end = time.monotonic() + 60
    while service.parts()._batches._pending() < 12:  # the first one may begin before the last waits
        assert time.monotonic() < end
        time.sleep(0.01)
    slept: list[float] = []
    monkeypatch.setattr(
        "sam_plugins.labelstudio_backend.batch.time",
        SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=slept.append),
    )
    threading.Timer(0.5, go.set).start()
    other = create_app(service.settings, service=service).test_client()
    assert predicted(other, body) == [[]] * 12
    first.join()
    assert len(slept) == 1
    assert 0 < slept[0] < 1


def test_weights_that_are_replaced_answer_from_the_next_request_on(
    shipped_model: Model, tmp_path: Path
) -> None:
    weights, loaded = tmp_path / "cells.pt", []
    weights.write_bytes(b"first")

    def load(name: str) -> Model:
        loaded.append(Path(name).read_bytes())
        return shipped_model

    settings = Settings(folder=tmp_path / "backend", model=str(weights), open_seconds=60)
    service = Service(settings, load=load)
    client = create_app(settings, service=service).test_client()
    versions = []
    for content in (b"first", b"second", b"second"):
        weights.write_bytes(content)
        (found,) = predicted(client, request(None, own(), url=PICTURE))
        versions.append(found["model_version"])
    assert loaded == [b"first", b"second"]
    assert versions[0] != versions[1] == versions[2]
    assert len(service.parts().engine.pictures) == 2  # one of each network
    assert service.parts().engine.models.loaded() == [str(weights)]
    service.close()


def test_a_score_that_is_no_number_is_answered(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(items=[], score=float("nan"))
    monkeypatch.setattr(service.parts(), "suggest", lambda *_: found)
    asked = request([click(60, 50, size_hw=SIZE)], own(), url=PICTURE)
    (result,) = predicted(client, asked)
    assert result["score"] == 0
