"""What makes no sense is told, and stops nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.labelstudio_backend.learning.helpers import (
    CONFIG,
    KEY,
    annotation,
    brush,
    event,
    left_out,
    of_config,
    square,
    stored,
    told,
    url_of,
)

from sam_plugins.errors import DatasetError, LearningError, StoreError
from sam_plugins.labelstudio_backend.learning import mirror
from sam_plugins.labelstudio_backend.learning.api import explained
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.keys import model_name_of
from sam_plugins.labelstudio_backend.learning.labels import store_task
from sam_plugins.labelstudio_backend.learning.pictures import group_of_url
from sam_plugins.model.weights.store import ModelStore


def test_seconds_that_are_a_text_are_a_number(learning: BackendLearning) -> None:
    kept = [brush("aaaaaaaaaa", square(2, 2))]
    for number, told_time in enumerate(("12.5", "soon", -3.0, 10**400, [1])):
        one = annotation(number + 1, number + 5, kept, lead_time=told_time)
        told(learning, event("ANNOTATION_CREATED", one))
    assert [one.seconds for one in stored(learning)] == [12.5, None, None, None, None]


def test_a_page_that_is_null_is_the_first(learning: BackendLearning) -> None:
    config = CONFIG.replace('value="$image"', 'valueList="$images"')
    pages = [
        {**brush("aaaaaaaaaa", square(2, 2)), "item_index": None},
        {**brush("bbbbbbbbbb", square(9, 9)), "item_index": 1},
        {**brush("cccccccccc", square(9, 9)), "item_index": "one"},
    ]
    payload = of_config(event("ANNOTATION_CREATED", annotation(1, 5, pages)), config)
    payload["task"]["data"] = {"images": [url_of(1), url_of(2)]}
    told(learning, payload)
    first, second = stored(learning)
    np.testing.assert_array_equal(first.mask(), square(2, 2))
    np.testing.assert_array_equal(second.mask(), square(9, 9))
    assert first.image_id != second.image_id
    assert left_out(learning) == {"the task has no such page": 1}


def test_an_annotation_whose_result_is_no_list_does_not_count(learning: BackendLearning) -> None:
    good = annotation(1, 5, [brush("aaaaaaaaaa", square(2, 2))])
    odd = {**annotation(2, 5, [], minute=9, ground_truth=True), "result": 5}
    told(learning, event("ANNOTATION_CREATED", good), event("ANNOTATION_CREATED", odd))
    assert len(stored(learning)) == 1
    assert left_out(learning) == {"the result of its annotation is no list": 1}
    told(learning, event("ANNOTATIONS_DELETED", annotations=[{"id": 1}]))
    assert stored(learning) == []
    assert left_out(learning) == {"the result of its annotation is no list": 1}


def test_an_item_with_an_odd_value_leaves_the_region_of_its_id_alone(
    learning: BackendLearning,
) -> None:
    kept = brush("aaaaaaaaaa", square(2, 2))
    del kept["value"]["brushlabels"]
    result = [kept, {"id": "aaaaaaaaaa", "type": "choices", "value": [1]}]
    told(learning, event("ANNOTATION_CREATED", annotation(1, 5, result)))
    assert len(stored(learning)) == 1


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("0a1b2c3d-", "7/0a1b2c3d-"),
        ("0a1b2c3d-.", "7/."),
        ("0a1b2c3d-.png", "7/.png"),
        ("0a1b2c3d-slide_x0_y0.png", "7/slide"),
    ],
)
def test_a_picture_without_a_name_has_a_group(name: str, group: str) -> None:
    assert group_of_url(f"/data/upload/7/{name}") == group
    assert group_of_url("/") == "picture"


def test_one_odd_task_does_not_stop_the_others(
    learning: BackendLearning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(store: Any, task: Any, *others: Any, **named: Any) -> Any:
        if task.task == 5:
            raise AttributeError("'int' object has no attribute 'items'")
        return store_task(store, task, *others, **named)

    monkeypatch.setattr("sam_plugins.labelstudio_backend.learning.labels.store_task", odd)
    for number in (5, 6):
        one = annotation(number, number, [brush("aaaaaaaaaa", square(2, 2))])
        learning.on_webhook(event("ANNOTATION_CREATED", one))
    learning.request_training(KEY, "a test")
    started: list[str] = []
    learning._trainings.start = lambda job, _folder: started.append(job.project)
    learning.work()
    assert len(stored(learning)) == 1
    status = learning.status()["projects"][KEY]
    assert status["task_notes"]["5"].startswith("AttributeError: 'int' object")
    assert status["tasks_waiting"] == 1
    assert started == [KEY]
    assert "Traceback" in caplog.text


def test_a_failure_that_cannot_be_noted_ends_the_round(
    learning: BackendLearning, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(*_: Any, **__: Any) -> None:
        raise LearningError("the disk is full")

    def unreadable(_key: str, task: int) -> None:
        asked.append(task)
        learning._is_closing = len(asked) > 10  # It went on for ever.
        raise DatasetError("it makes no sense")

    told(learning)
    for task in (5, 6):
        learning.on_webhook(event("ANNOTATION_CREATED", annotation(task, task, [])))
    monkeypatch.setattr(mirror, "note_failure", full)
    learning._store_task = unreadable
    learning.work()
    assert asked == [5]
    assert learning.status()["errors"][-1]["message"] == "the disk is full"
    learning.work()
    assert asked == [5, 5]


@pytest.mark.parametrize("problem", [StoreError("no such file"), RuntimeError("a torn file")])
def test_a_model_that_cannot_be_loaded_blocks_no_other_project(
    learning: BackendLearning, problem: Exception
) -> None:
    swapped: list[str] = []

    def swap(key: str, _model: str) -> None:
        if key == KEY:
            raise problem
        swapped.append(key)

    def model_of(key: str) -> str:
        if key == "8.1":
            raise StoreError("its store is damaged")
        return "cells@1"

    for key in (KEY, "8.1", "9.1"):
        learning.on_project(key)
    learning._swap_model = swap
    learning.model_of = model_of
    learning.work()
    assert swapped == ["9.1"]
    told_errors = {one["while"]: one["message"] for one in learning.status()["errors"]}
    assert str(problem) in told_errors[f"swapping the model of project {KEY}"]
    assert told_errors["swapping the model of project 8.1"] == "its store is damaged"


def test_a_project_that_cannot_be_described_hides_no_other(
    learning: BackendLearning, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_use(_self: ModelStore, name: str) -> None:
        if name == model_name_of("8.1"):
            raise StoreError("its store is damaged")

    for key in (KEY, "8.1"):
        learning.on_project(key)
    monkeypatch.setattr(ModelStore, "in_use", in_use)
    found = learning.status()["projects"]
    assert found["8.1"] == {"error": "this project cannot be described: its store is damaged"}
    assert found[KEY]["objects"] == 0


def test_a_refused_token_names_the_setting() -> None:
    assert "as SAM_PLUGINS_LS_API_KEY" in explained("http://host", 401, {})
