"""Batches on a Dask cluster of real processes: the same predictions, and here where it is away."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dask_cluster import two_workers
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.payloads import data_url, disk, iou, own, picture_of, request

from sam_plugins.errors import ClusterError, TaskLostError, how_to_install
from sam_plugins.labelstudio_backend import cluster as cluster_module
from sam_plugins.labelstudio_backend import task_predictions
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.cluster import Cluster, done_or_here
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.models import version_of
from sam_plugins.labelstudio_backend.payload import read_request
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.cluster import opening
from sam_plugins.model.cluster.outcome import Kept
from sam_plugins.model.io.label_studio import mask_of, regions_of
from sam_plugins.model.weights.paths import STORE_VARIABLE

SIZE = (120, 160)
DISKS = [disk(SIZE, (60 + 15 * number, 50), 25) for number in range(3)]
NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with two_workers() as address:
        yield address


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))


def batch() -> dict[str, Any]:
    """A batch of three pictures, and one that is none."""
    body = request(None, own(), url=data_url(picture_of(DISKS[0])))
    urls = [*(data_url(picture_of(one)) for one in DISKS[1:]), "data:image/png;base64,AAAA"]
    for number, url in enumerate(urls):
        body["tasks"].append({"id": 10 + number, "data": {"image": url}})
    return body


def predictions(service: Any) -> list[Any]:
    """What a batch is answered with."""
    client = create_app(service.settings, service=service).test_client()
    response = client.post("/predict", json=batch())
    assert response.status_code == 200, response.text
    found: list[Any] = response.json["results"]  # type: ignore[index]
    return found


def counts_encodes(service: Any) -> int:
    """How many pictures this process encoded."""
    return int(service.metrics.encodes._value.get())


def test_a_batch_on_a_cluster_is_what_this_process_would_answer(
    make_service: MakeService, scheduler: str, tmp_path: Path
) -> None:
    there = make_service(
        scheduler=scheduler, batch_seconds=90, device="cpu", folder=tmp_path / "there"
    )
    here = make_service(batch_seconds=90, device="cpu", folder=tmp_path / "here")
    found, expected = predictions(there), predictions(here)
    assert counts_encodes(there) == 0
    assert counts_encodes(here) == 3
    for shown, other, mask in zip(found, expected, DISKS, strict=False):
        assert shown["model_version"] == other["model_version"]
        assert shown["score"] == pytest.approx(other["score"], abs=0.01)
        masks = [mask_of(region, SIZE) for region in regions_of(shown["result"])]
        assert max(iou(one, mask) for one in masks) > 0.85
        assert len(shown["result"]) == len(other["result"])
    assert found[3] == expected[3]  # a damaged picture is the same mistake anywhere
    assert "2 workers" in there.status()["cluster"]["state"]
    assert "cluster" not in here.status()


def test_a_picture_on_the_disk_is_read_there_and_its_embedding_is_shared(
    make_service: MakeService, scheduler: str
) -> None:
    """As every picture that is fetched; clicks then begin warm."""
    service = make_service(scheduler=scheduler, batch_seconds=90, device="cpu")
    engine, project = service.parts().engine, service.projects.get("")
    body = batch()
    del body["tasks"][1:]
    source = engine.source(project, read_request(body).tasks[0], body["tasks"][0]["data"]["image"])
    engine.files._keep(source.key, engine.files.get(source))  # addresses with data: are not kept
    body["tasks"].append({**body["tasks"][0], "id": 2})
    client = create_app(service.settings, service=service).test_client()
    found = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    assert all(one["result"] for one in found)
    assert len(list((service.settings.folder / "embeddings").glob("*.embedding"))) == 1
    engine.embedding(project, read_request(body).tasks[0], source.url, Priority.INTERACTIVE)
    assert counts_encodes(service) == 0


def test_a_task_that_somebody_opens_does_not_go_there(
    make_service: MakeService, scheduler: str
) -> None:
    service = make_service(scheduler=scheduler, open_seconds=60)
    body = batch()
    del body["tasks"][1:]
    client = create_app(service.settings, service=service).test_client()
    (found,) = client.post("/predict", json=body).json["results"]  # type: ignore[index]
    assert found["result"]
    assert counts_encodes(service) == 1
    assert service.status()["cluster"]["state"] == "not used yet"


def test_a_cluster_that_is_away_is_told_of_once_and_work_is_done_here(
    make_service: MakeService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opening, "_CONNECT_SECONDS", 1)
    service = make_service(scheduler=NOWHERE, batch_seconds=90)
    found = predictions(service)
    assert all(one["result"] for one in found[:3])
    assert counts_encodes(service) == 3
    (line,) = [one for one in caplog.messages if "cluster cannot be used" in one]
    assert "cannot reach a Dask scheduler at tcp://127.0.0.1:9" in line
    assert "\n" not in line
    assert line.partition("here: ")[2] == service.status()["cluster"]["state"]


def test_a_backend_that_ends_says_nothing_of_what_it_drops(
    make_service: MakeService, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(cluster: Cluster, *_: Any) -> None:
        cluster.close()
        raise ClusterError("the connection to the scheduler is lost")

    monkeypatch.setattr(task_predictions, "done_or_here", ends)
    service = make_service(scheduler=scheduler, batch_seconds=90)
    assert predictions(service)[:3] == [[], [], []]
    assert {one["kind"] for one in service.problems.documents()} <= {"image"}


def test_a_missing_library_is_a_reason_like_any_other(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sam_plugins.model.cluster import choice

    monkeypatch.setattr(choice, "has_dask", lambda: False)
    service = make_service(scheduler="local", batch_seconds=90)
    assert all(one["result"] for one in predictions(service)[:3])
    assert any(how_to_install("scale") in one for one in caplog.messages)


def nap(kept: Kept, item: tuple[str, int]) -> int:
    """Leave word of the process, and sleep."""
    folder, number = item
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    time.sleep(0.5)
    return 2 * number


def end_worker(kept: Kept, item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def lacking(kept: Kept, item: int) -> int:
    raise ModuleNotFoundError("No module named 'pydantic_settings'")


@pytest.fixture
def cluster(scheduler: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(Settings(folder=tmp_path, scheduler=scheduler))
    yield made
    made.close()


def test_a_task_whose_worker_is_lost_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "naps"
    folder.mkdir()
    found: list[int | None] = []
    thread = threading.Thread(
        target=lambda: found.append(cluster.perform(nap, (str(folder), 4)).value)
    )
    thread.start()
    while not list(folder.iterdir()):
        time.sleep(0.02)
    (first,) = folder.iterdir()
    os.kill(int(first.name.partition("-")[2]), signal.SIGKILL)
    thread.join(60)
    assert found == [8]
    assert len(list(folder.iterdir())) == 2


def test_what_kills_every_worker_is_not_done_here(cluster: Cluster) -> None:
    with pytest.raises(TaskLostError, match="lost one after the other"):
        done_or_here(cluster, end_worker, 1, lambda: pytest.fail("it would kill the backend"))


def test_what_a_worker_lacks_is_said_and_done_here(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    assert done_or_here(cluster, lacking, 1, lambda: 7) == 7
    assert "it is done here: No module named 'pydantic_settings'" in caplog.text


def test_another_model_there_is_refused(
    make_service: MakeService,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = make_service(scheduler=scheduler, batch_seconds=90, device="cpu")
    monkeypatch.setattr(
        task_predictions, "version_of", lambda name: f"{version_of(name)}-retrained"
    )
    assert all(one["result"] for one in predictions(service)[:3])
    assert "a worker sees another model as default" in caplog.text
    assert counts_encodes(service) == 3


def test_local_processes_end_when_nothing_is_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_IDLE_SECONDS", 0.5)
    made = Cluster(Settings(folder=tmp_path, scheduler="local"))
    before = dict(os.environ)
    assert made.is_here
    assert made.perform(nap, (str(tmp_path), 1)).value == 2
    (name,) = tmp_path.glob("1-*")
    process = int(name.name.partition("-")[2])
    end = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert dict(os.environ) == before
    assert made.perform(nap, (str(tmp_path), 2)).value == 4  # and are there again
    made.close()
    with pytest.raises(ClusterError, match="the backend ends"):
        made.perform(nap, (str(tmp_path), 3))


def test_workers_get_no_secrets(tmp_path: Path) -> None:
    settings = Settings(
        folder=tmp_path, api_key="a-token-of-mine", password="sesame", webhook_secret="hook-secret"
    )
    sent = settings.for_workers()
    shown = repr({name: str(value) for name, value in sent.model_dump().items()})
    assert sent.api_key.get_secret_value() == ""
    for secret in ("a-token-of-mine", "sesame", "hook-secret"):
        assert secret not in shown
        assert secret.encode() not in pickle.dumps(sent)


@pytest.mark.parametrize("given", ["", "none"])
def test_without_a_scheduler_nothing_is_sent(given: str, tmp_path: Path) -> None:
    assert not Cluster(Settings(folder=tmp_path, scheduler=given)).is_wanted


def test_a_wrong_scheduler_is_refused_with_what_is_expected() -> None:
    with pytest.raises(ValueError, match="the address of a Dask scheduler such as tcp://node7"):
        Settings(scheduler="node7")
