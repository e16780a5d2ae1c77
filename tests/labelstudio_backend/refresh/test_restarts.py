"""Making anew goes on after a restart, and when Label Studio is back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
from tests.labelstudio_backend.learning.helpers import CONFIG, KEY, fetch
from tests.labelstudio_backend.refresh.studio import (
    NEW,
    OLD,
    PICTURE,
    MakeBackend,
    Studio,
    look,
    refreshed,
    wait_until,
)
from tests.labelstudio_backend.server import TOKEN
from tests.labelstudio_backend.test_batch import predicted

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.unfinished import Unfinished


def test_a_backend_that_starts_goes_on(studio: Studio, make_backend: MakeBackend) -> None:
    ready = threading.Event()

    def find(_: Any, task: Any) -> None:
        if task.id == "3":
            ready.set()
            time.sleep(0.2)  # it is cut off here
            raise RuntimeError("the backend ends")

    first = make_backend(find)
    for task in range(1, 6):
        studio.add(task, OLD)
    first.refresh_predictions(KEY)
    assert ready.wait(60)
    first.drain()
    end = time.monotonic() + 60
    while first.parts()._refresher._at_work:
        assert time.monotonic() < end
        time.sleep(0.01)
    done = len(studio.patches)
    assert 2 <= done < 5
    assert first.problems.documents() == []
    second = make_backend()
    assert refreshed(second) == [(5 - done, 5 - done, 0, 5 - done)]
    assert set(map(tuple, studio.versions().values())) == {(NEW,)}
    assert len(studio.patches) == 5


def test_a_batch_of_hundreds_is_finished_after_a_restart(
    studio: Studio, make_backend: MakeBackend, tmp_path: Path
) -> None:
    made: list[str] = []
    ready = threading.Event()

    def find(_: Any, task: Any) -> None:
        if len(made) >= 200:
            ready.set()
            time.sleep(0.2)  # it is cut off here
            raise RuntimeError("the backend ends")
        made.append(task.id)

    for number in range(1, 301):
        studio.add(number)
    first = make_backend(find, batch_seconds=0, refresh_predictions=False)
    tasks = [{"id": number, "data": {"image": PICTURE}} for number in studio.tasks]
    body = {"project": KEY, "label_config": CONFIG, "tasks": tasks}
    answers = predicted(create_app(first.settings, service=first).test_client(), body)
    for number, answer in enumerate(answers, 1):
        if answer:
            studio.store(number, answer)
    assert ready.wait(60)
    first.drain()
    wait_until(lambda: not first.parts()._batches._pending())
    stored = sum(map(len, studio.versions().values()))
    assert 200 <= stored < 210
    assert list((tmp_path / "backend" / "batches").iterdir())
    studio.tasks.pop(300)
    studio.store(299, {"model_version": NEW})  # retrieved by hand meanwhile

    second = make_backend(refresh_predictions=False)
    left = 300 - stored - 2
    assert [one[:2] for one in look(second)] == [
        ("asked for before the backend was restarted", left)
    ]
    wait_until(lambda: second.status()["batches"][0]["posted"] == left)
    assert set(map(tuple, studio.versions().values())) == {(NEW,)}
    wait_until(lambda: not list((tmp_path / "backend" / "batches").iterdir()))
    assert look(make_backend()) == []
    assert first.problems.documents() == second.problems.documents() == []


def test_what_is_left_of_batches_that_nobody_can_read_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    Unfinished(folder).add(KEY, ["2", "10"])
    assert Unfinished(folder).of_earlier(KEY) == ["2", "10"]
    assert Unfinished(folder).of_earlier("8.1") == []
    (file,) = folder.iterdir()
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"project": "7.1", "tasks": 3}'):
        file.write_bytes(damaged)
        assert Unfinished(folder).of_earlier(KEY) == []
    folder.rename(tmp_path / "other")
    folder.write_bytes(b"")  # no folder: nothing can be kept, and nothing fails
    kept = Unfinished(folder)
    kept.add(KEY, ["3"])
    kept.end(KEY, "3")


@pytest.mark.parametrize("status", [401, 503])
def test_it_goes_on_when_label_studio_is_back(
    studio: Studio, make_backend: MakeBackend, status: int
) -> None:
    def find(_: Any, task: Any) -> None:
        if task.id == "3":
            studio.status = status

    service = make_backend(find)
    for task in range(1, 8):
        studio.add(task, OLD)
    (first,) = refreshed(service)
    assert first[3] <= 3
    (problem,) = [one for one in service.problems.documents() if one["since"]]
    assert problem["project"] == KEY
    assert "predictions of an earlier model cannot be made anew" in problem["message"]
    refreshed(service)
    assert len(service.status()["batches"]) == 1  # nothing is known of the tasks
    find_nothing = service.parts()._batches._predictor
    find_nothing._objects = lambda *_: ([], 0.5)  # type: ignore[method-assign,assignment]
    studio.status = 0
    done = len(studio.patches)
    assert refreshed(service)[0] == (7 - done, 7 - done, 0, 7 - done)
    assert not [one for one in service.problems.documents() if one["since"]]


def test_one_process_sees_to_it_while_label_studio_answers(studio: Studio, tmp_path: Path) -> None:
    looked: list[str] = []

    def learning_of(**settings: Any) -> BackendLearning:
        made = BackendLearning(
            LearningSettings(folder=tmp_path / "state", **settings),
            fetch=fetch,
            refresh_predictions=looked.append,
        )
        made.on_project(KEY)
        return made

    alone = learning_of()
    alone.work()
    assert looked == []  # without an address and a token
    alone.close()
    learning = learning_of(url=studio.url, token=TOKEN)
    lock = filelock.FileLock(tmp_path / "state" / "learning.lock")
    with lock:
        learning.work()
        assert looked == []  # another process does
    learning.work()
    learning.work()
    assert looked == [KEY, KEY]
    learning.close()
    studio.status = 503
    down = learning_of(url=studio.url, token=TOKEN)
    down.work()
    assert looked == [KEY, KEY]
    down.close()
