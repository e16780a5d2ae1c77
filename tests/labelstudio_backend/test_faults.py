"""When something breaks, the disk, the process or Label Studio, and while models change."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.learning.helpers import annotation, brush, event, square
from tests.labelstudio_backend.payloads import click, data_url, disk, own, picture_of, request
from tests.labelstudio_backend.server import TOKEN, LabelStudio, free_port

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.learning.creating import create_learning
from sam_plugins.labelstudio_backend.learning.database import Database
from sam_plugins.labelstudio_backend.learning.events import EventQueue
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.loading import Model

SIZE = (60, 80)


def picture(seed: int) -> str:
    """The address of a picture with a disk in its middle, another one for each number."""
    return data_url(picture_of(disk(SIZE, (40, 30), 15), seed))


def body(seed: int = 0, **others: Any) -> dict[str, Any]:
    """A click on that disk."""
    return request([click(40, 30, size_hw=SIZE)], own(), url=picture(seed), task=seed, **others)


@contextlib.contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as if there were no more space."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.filterwarnings("ignore:embeddings are kept in memory only")
def test_pictures_are_decoded_where_no_byte_can_be_written(client: FlaskClient) -> None:
    with full_disk(0):
        clicked = client.post("/predict", json=body(1))
        predicted = client.post("/predict", json=request(None, own(), url=picture(2), task=2))
    for answer in (clicked, predicted):
        assert len((answer.json or {})["results"][0]["result"]) == 1
    assert (client.get("/status").json or {})["problems"] == []


@pytest.mark.filterwarnings("ignore:embeddings are kept in memory only")
def test_with_a_full_disk_clicks_are_answered_and_events_refused_with_the_reason(
    make_service: MakeService, tmp_path: Path
) -> None:
    service = make_service()
    service.parts()  # its folders are made
    learning = create_learning(service.settings, service)
    client = create_app(service.settings, service=service, learning=learning).test_client()
    masks = [brush("aaaaaaaaaa", np.random.default_rng(0).random((400, 400)) > 0.5)]
    with full_disk(20_000):
        setup = client.post("/setup", json={"project": "7.17", "schema": own(), "hostname": "h"})
        answers = [client.post("/predict", json=body(seed)) for seed in (1, 1, 2)]
        refused = client.post("/webhook", json=event("ANNOTATION_CREATED", annotation(1, 5, masks)))
        assert client.get("/status").status_code == 200
    assert setup.status_code == 200
    for answer in answers:
        assert answer.status_code == 200
        assert len((answer.json or {})["results"][0]["result"]) == 1
    assert refused.status_code == 503
    assert "check that the disk has space" in (refused.json or {})["detail"]
    halves = [path for path in (tmp_path / "backend" / "embeddings").rglob("*") if path.is_file()]
    assert not halves, "an embedding was left half-written"
    kept = event("ANNOTATION_CREATED", annotation(1, 5, masks))
    assert client.post("/webhook", json=kept).status_code == 200  # there is space again
    assert client.post("/predict", json=body(3)).status_code == 200
    assert learning.status()["events_waiting"] == 1
    learning.close()


@pytest.mark.server
@pytest.mark.slow
def test_kill_9_during_saves_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    versions = set()
    for round_number in range(3):
        with command(tmp_path) as (url, process):
            stop = threading.Event()
            sender = threading.Thread(target=click_on, args=(url, stop, 100 * round_number))
            sender.start()
            wanted, end, kept = acknowledged + 10, time.monotonic() + 120, embeddings(tmp_path)
            while acknowledged < wanted or embeddings(tmp_path) == kept:
                assert time.monotonic() < end, "events and embeddings are written too slowly"
                number = acknowledged + 1
                one = annotation(number, number, [brush("aaaaaaaaaa", square(2, 2))])
                with contextlib.suppress(requests.RequestException):
                    answer = requests.post(
                        f"{url}/webhook", json=event("ANNOTATION_CREATED", one), timeout=30
                    )
                    acknowledged += answer.status_code == 200
                with contextlib.suppress(requests.RequestException):
                    setup = {"project": "7.1795850291", "schema": own() + " " * number}
                    requests.post(f"{url}/setup", json=setup, timeout=30)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            stop.set()
            sender.join()
    with command(tmp_path) as (url, _):
        answer = requests.post(f"{url}/predict", json=body(1), timeout=60)
        assert len(answer.json()["results"][0]["result"]) == 1
        versions.add(answer.json()["model_version"])
        status = requests.get(
            f"{url}/status", headers={"Accept": "application/json"}, timeout=30
        ).json()
    assert acknowledged >= 30
    assert not [one for one in status["problems"] if one["kind"] == "internal"]
    database = Database(tmp_path / "backend" / "learning")
    with database.reading() as connection:
        known = connection.execute("SELECT count(*) FROM annotations").fetchone()[0]
    # each is applied or waits; one more may have been written whose answer was cut off each time
    assert acknowledged <= known + EventQueue(database).count() <= acknowledged + 3
    for path in (tmp_path / "backend" / "projects").glob("*.json"):
        assert json.loads(path.read_text())["project"] == "7.1795850291"


def embeddings(folder: Path) -> set[Path]:
    """The files of embeddings that a backend has written."""
    return set((folder / "backend" / "embeddings").rglob("*.*"))


@contextlib.contextmanager
def command(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The command that serves, in processes of its own."""
    port = free_port()
    environment = {
        **os.environ,
        "SAM_PLUGINS_HOME": str(folder / "home"),
        "SAM_PLUGINS_LS_FOLDER": str(folder / "backend"),
        "SAM_PLUGINS_LS_DEVICE": "cpu",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sam_plugins", "labelstudio", "serve", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{url}/health", timeout=2).ok:
                    break
            time.sleep(0.1)
        yield url, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)


def click_on(url: str, stop: threading.Event, seed: int) -> None:
    """Click on one new picture after the other, so that embeddings are written all the time."""
    while not stop.is_set():
        seed += 1
        with contextlib.suppress(requests.RequestException):
            requests.post(f"{url}/predict", json=body(seed), timeout=30)


@pytest.fixture
def stopping(label_studio: LabelStudio) -> Iterator[LabelStudio]:
    """The server of the other tests, for one that stops it."""
    yield label_studio
    if label_studio.process is None:
        label_studio.start()


@pytest.mark.server
@pytest.mark.slow
def test_label_studio_goes_down_and_comes_back(
    stopping: LabelStudio, make_service: MakeService, tmp_path: Path
) -> None:
    label_studio = stopping
    service = make_service(
        url=label_studio.url, api_key=TOKEN, automatic=False, reconcile_minutes=1e-4
    )
    learning = create_learning(service.settings, service)
    client = create_app(service.settings, service=service, learning=learning).test_client()
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(picture_of(disk(SIZE, (40, 30), 15), seed)).save(paths[-1])
    made = label_studio.make_project(own())
    project, key = made["id"], key_of(made)
    assert key is not None
    learning.on_project(key)
    tasks = label_studio.upload(project, paths)
    urls = {one["id"]: one["data"]["image"] for one in label_studio.tasks(project)}

    def regions(task: int) -> int:
        sent = request([click(40, 30, size_hw=SIZE)], own(), url=urls[task], task=task)
        answer = client.post("/predict", json=sent)
        assert answer.status_code == 200
        return len((answer.json or {})["results"][0]["result"])

    def problems() -> list[dict[str, Any]]:
        learning.work()
        found: list[dict[str, Any]] = (client.get("/status").json or {})["problems"]
        return found

    assert regions(tasks[0]) == 1
    assert problems() == []
    label_studio.stop()
    (goes_on,) = problems()
    assert f"cannot reach Label Studio at {label_studio.url}" in goes_on["message"]
    assert "check that it runs" in goes_on["message"]
    since = datetime.fromisoformat(goes_on["since"])
    assert since <= datetime.now(UTC)
    assert regions(tasks[0]) == 1  # prepared: nobody has to be asked
    assert regions(tasks[1]) == 0
    goes_on, told = problems()
    assert datetime.fromisoformat(goes_on["since"]) == since
    assert label_studio.url in told["message"]
    assert told["kind"] != "internal"
    label_studio.start()
    assert problems() == []
    assert learning.status()["projects"][key]["reconcile_error"] == ""
    assert regions(tasks[1]) == 1
    learning.close()


def test_models_change_under_load_and_no_request_is_dropped(
    shipped_model: Model, tmp_path: Path
) -> None:
    def load(name: str) -> Model:
        return shipped_model if name == "default" else replace(shipped_model, model_id=f"id-{name}")

    service = Service(Settings(folder=tmp_path), load=load)
    app = create_app(service.settings, service=service)
    key, stop = "7.17", threading.Event()
    wrong: list[str] = []
    seen: set[str] = set()

    def annotate(number: int) -> None:
        client = app.test_client()
        while not stop.is_set():
            answer = client.post("/predict", json=body(number, project=key))
            results = (answer.json or {}).get("results") or [{}]
            if answer.status_code != 200 or len(results[0].get("result", ())) != 1:
                wrong.append(f"{answer.status_code} {answer.text[:200]}")
            else:
                seen.add(results[0]["model_version"])

    threads = [threading.Thread(target=annotate, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    versions = [service.model_version(key)]
    for name in ("cells@1", "cells@2", "default", "cells@2"):
        time.sleep(0.5)
        versions.append(service.swap_model(key, name))
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    service.close()
    assert wrong == []
    assert seen == set(versions)
    assert not service.problems.documents()


LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["7.1795850291", "ANNOTATION_CREATED", "../..", "2026-11-28T08:00:00Z"])
)  # fmt: skip
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "task", "result", "data", "value", "created_at", "project"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
EVENT = st.fixed_dictionaries(
    {"action": st.sampled_from(["ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED",
                                "START_TRAINING", "PROJECT_UPDATED", "TASKS_CREATED"]) | LEAF},
    optional=dict.fromkeys(("project", "annotation", "annotations", "task", "tasks"), JSON),
)  # fmt: skip
SETUP = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("project", "schema", "hostname", "access_token"), JSON)
    | {"extra_params": JSON | st.sampled_from(['{"model": 3}', {"output": "x"}, "{"])},
)


def test_a_setup_that_names_no_project_is_answered(learning_client: Any) -> None:
    answer = learning_client.post("/setup", json={})
    assert answer.status_code == 200
    assert answer.get_json()["model_version"]


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]),
    route=st.sampled_from(["/", "/health", "/setup", "/predict", "/webhook", "/webhook/x",
                           "/versions", "/versions?project=%00", "/status", "/metrics", "/train"]),
    sent=EVENT | SETUP | JSON,
    raw=st.none() | st.binary(max_size=20),
    accept=st.sampled_from(["*/*", "text/html", "application/json", "image/png;q=x", ""]),
)  # fmt: skip
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_route_has_an_internal_error_whatever_is_sent(
    learning_client: Any, method: str, route: str, sent: Any, raw: bytes | None, accept: str
) -> None:
    content = json.dumps(sent).encode() if raw is None else raw
    answer = learning_client.open(
        route,
        method=method,
        data=content,
        headers={"Accept": accept},
        content_type="application/json",
    )
    assert answer.status_code < 500, f"{method} {route} {content!r}: {answer.text}"


@pytest.mark.parametrize("depth", [300, 940, 1000, 1015, 5000])
def test_what_is_nested_too_deeply_is_refused(learning_client: Any, depth: int) -> None:
    """The body may be read and yet be too deep to be written down."""
    deep = "[" * depth + "]" * depth
    annotated = f'{{"id": 1, "task": 1, "result": {deep}}}'
    kind = "application/json"
    event = f'{{"action": "ANNOTATION_CREATED", "project": {{"id": 1}}, "annotation": {annotated}}}'
    setup = f'{{"project": "1.1", "extra_params": {{"model": {deep}}}}}'
    answers = [
        learning_client.post(route, data=sent, content_type=kind)
        for route, sent in (("/webhook", event), ("/setup", setup))
    ]
    for answer in answers:
        assert answer.status_code in ({200} if depth < 900 else {200, 400}), answer.text
        assert answer.status_code == 200 or re.search("nested|recursion", answer.json["detail"])
    assert depth < 1000 or answers[0].status_code == 400


@pytest.fixture
def learning_client(make_service: MakeService) -> Iterator[Any]:
    """A backend that learns, and applies what it is sent."""
    service = make_service()
    learning = create_learning(service.settings, service)
    yield create_app(service.settings, service=service, learning=learning).test_client()
    while learning._events.apply_next():  # whatever came is applied, or refused with a reason
        pass
    learning.work()
    learning.close()
