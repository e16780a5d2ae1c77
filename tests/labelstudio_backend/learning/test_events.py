"""Events: written down at once, applied in any order, lost by nothing."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.labelstudio_backend.learning.helpers import (
    KEY,
    PROJECT,
    annotation,
    brush,
    event,
    learning_at,
    square,
    url_of,
)

from sam_plugins.errors import LearningError
from sam_plugins.labelstudio_backend.learning import mirror
from sam_plugins.labelstudio_backend.learning.database import Database
from sam_plugins.labelstudio_backend.learning.events import EventQueue
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.learning.packing import packed_annotation, unpacked_annotation

CREATED = event("ANNOTATION_CREATED", annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))]))
UPDATED = event(
    "ANNOTATION_UPDATED", annotation(1, 5, [brush("bbbbbbbbbb", square(9, 9))], minute=3)
)
DELETED = event("ANNOTATIONS_DELETED", annotations=[{"id": 1}])


def drained(folder: Path, *payloads: dict) -> Database:
    """Apply events."""
    database = Database(folder)
    queue = EventQueue(database)
    for payload in payloads:
        queue.put(payload)
    while queue.apply_next():
        pass
    return database


def region_ids(database: Database, task: int = 5) -> list[str]:
    """The regions of a task as they are known."""
    found = mirror.read_task(database, KEY, task).annotations
    return [item["id"] for one in found for item in one["result"]]


def test_a_project_has_one_key_in_events_and_in_setups() -> None:
    assert key_of(PROJECT) == KEY == key_of(KEY)
    assert key_of({"id": True}) is None
    assert key_of("1/../2") is None


def test_an_event_becomes_an_annotation_with_its_task(tmp_path: Path) -> None:
    database = drained(tmp_path, CREATED)
    task = mirror.read_task(database, KEY, 5)
    assert task.data == {"image": url_of(5)}
    assert task.annotations[0]["lead_time"] == 12.0
    assert task.annotations[0]["result"] == CREATED["annotation"]["result"]
    assert mirror.changed_tasks(database) == [(KEY, 5)]


@pytest.mark.parametrize("order", list(itertools.permutations([CREATED, CREATED, UPDATED])))
def test_twice_and_out_of_order_the_newest_state_stays(tmp_path: Path, order: tuple) -> None:
    assert region_ids(drained(tmp_path, *order)) == ["bbbbbbbbbb"]


@pytest.mark.parametrize("order", list(itertools.permutations([CREATED, UPDATED, DELETED])))
def test_what_was_deleted_stays_deleted_in_any_order(tmp_path: Path, order: tuple) -> None:
    assert region_ids(drained(tmp_path, *order)) == []


def test_a_deleted_task_takes_its_annotations_along_and_late_ones_too(tmp_path: Path) -> None:
    gone = event("TASKS_DELETED", tasks=[{"id": 5}])
    late = event("ANNOTATION_CREATED", annotation(2, 5, [brush("cccccccccc", square(1, 1))]))
    database = drained(tmp_path, CREATED, gone, late)
    assert region_ids(database) == []
    assert mirror.read_task(database, KEY, 5).is_deleted


def test_several_annotations_of_one_event_are_taken(tmp_path: Path) -> None:
    both = event(
        "ANNOTATIONS_CREATED",
        annotations=[
            annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))]),
            annotation(2, 6, [brush("bbbbbbbbbb", square(2, 2))]),
        ],
    )
    database = drained(tmp_path, both)
    assert region_ids(database, 5) == ["aaaaaaaaaa"]
    assert region_ids(database, 6) == ["bbbbbbbbbb"]


def test_start_training_asks_once_however_often_it_comes(tmp_path: Path) -> None:
    learning = learning_at(tmp_path)
    for _ in range(3):
        learning.on_webhook(event("START_TRAINING"))
    database = Database(tmp_path)
    while EventQueue(database).apply_next():
        pass
    assert [one["state"] for one in learning.status()["projects"][KEY]["trainings"]] == ["wanted"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"action": "ANNOTATION_CREATED"}, "must name its project with a number, got None"),
        (event("ANNOTATION_CREATED", None, annotation={"id": "x"}), "KeyError|ValueError"),
        (event("ANNOTATIONS_DELETED"), "KeyError: 'annotations'"),
        (event("ANNOTATIONS_DELETED", annotations=[{}]), "KeyError: 'id'"),
    ],
)
def test_what_makes_no_sense_is_told_and_the_rest_goes_on(
    tmp_path: Path, payload: dict, reason: str
) -> None:
    database = drained(tmp_path, payload, CREATED)
    queue = EventQueue(database)
    assert queue.count() == 0
    (said,) = queue.refused()
    assert any(part in said for part in reason.split("|"))
    assert region_ids(database) == ["aaaaaaaaaa"]


def test_tokens_are_not_written_down(tmp_path: Path) -> None:
    EventQueue(Database(tmp_path)).put(CREATED)
    for path in tmp_path.iterdir():
        assert b"not-to-be-kept" not in path.read_bytes()


def test_masks_are_packed_and_unpacked_exactly() -> None:
    one = annotation(
        1, 5, [brush("aaaaaaaaaa", square(2, 2)), {"id": "x", "value": {"rle": [300]}}]
    )
    packed = packed_annotation(one)
    assert "rle" not in packed["result"][0]["value"]
    assert unpacked_annotation(json.loads(json.dumps(packed))) == one


def test_a_large_event_is_taken_in_a_part_of_the_time_that_its_text_takes(tmp_path: Path) -> None:
    # 120 ragged masks, as section 2 of the measurements has them: 15 MB of JSON.
    generator = np.random.default_rng(0)
    masks = [
        {"id": f"{number:010d}", "type": "brushlabels",
         "value": {"format": "rle", "rle": generator.integers(0, 256, 32_000).tolist()}}
        for number in range(120)
    ]  # fmt: skip
    payload = event("ANNOTATION_CREATED", annotation(1, 5, masks))
    assert len(json.dumps(payload)) > 15e6
    learning = learning_at(tmp_path)
    taken, written = [], []
    for _ in range(5):
        begin = time.process_time()
        learning.on_webhook(payload)
        then = time.process_time()
        json.dumps(payload)
        taken.append(then - begin)
        written.append(time.process_time() - then)
    # 0.08 s and 0.45 s on two slow cores: nothing writes it again while Label Studio waits.
    assert sorted(taken)[2] < 0.5 * sorted(written)[2]


def test_kill_9_between_events_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    writer = (
        "import sys, pathlib\n"
        "from tests.labelstudio_backend.learning.helpers import *\n"
        "learning = learning_at(pathlib.Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    one = annotation(number, number, [brush('aaaaaaaaaa', square(2, 2))])\n"
        "    learning.on_webhook(event('ANNOTATION_CREATED', one))\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}."},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in process.stdout.read().splitlines() if line] or [20]
    process.wait()
    process.stdout.close()
    waiting = EventQueue(Database(tmp_path)).count()
    assert max(acknowledged) + 1 <= waiting <= max(acknowledged) + 2


def test_a_killed_backend_applies_each_event_once_after_it_comes_back(tmp_path: Path) -> None:
    database = drained(tmp_path)
    queue = EventQueue(database)
    queue.put(CREATED)
    with contextlib.suppress(RuntimeError), database.writing() as connection:
        connection.execute("DELETE FROM events")
        raise RuntimeError
    assert queue.count() == 1  # What had been begun is as if it had not.
    again = EventQueue(Database(tmp_path))
    assert again.apply_next()
    assert not again.apply_next()
    with Database(tmp_path).reading() as connection:
        count = connection.execute("SELECT annotations_since_training FROM projects").fetchone()[0]
    assert count == 1


def test_a_full_disk_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    learning = learning_at(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    masks = [brush("aaaaaaaaaa", np.random.default_rng(0).random((400, 400)) > 0.5)]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(LearningError, match="check that the disk has space"):
            learning.on_webhook(event("ANNOTATION_CREATED", annotation(1, 5, masks)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    learning.on_webhook(CREATED)
    learning.work()
    assert learning.status()["projects"][KEY]["annotations"] == 1
    learning.close()


def test_another_programs_database_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    Database(tmp_path / "newer")
    with Database(tmp_path / "newer").writing() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LearningError, match=r"written by a newer sam-plugins .*version 99"):
        Database(tmp_path / "newer")
    import sqlite3

    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / "learning.sqlite") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(LearningError, match="database of another program"):
        Database(tmp_path / "other")
