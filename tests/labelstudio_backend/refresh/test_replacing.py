"""Predictions of earlier models are made anew, those that nobody has begun, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.labelstudio_backend.learning.helpers import CONFIG, KEY, PROJECT
from tests.labelstudio_backend.refresh.studio import (
    NAME,
    NEW,
    NEWER,
    OLD,
    MakeBackend,
    Studio,
    refreshed,
)

from sam_plugins.labelstudio_backend import client as client_module
from sam_plugins.labelstudio_backend.refresh import OwnModels


def test_old_predictions_of_ours_are_replaced_where_nobody_has_begun(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PAGE", 2)
    service = make_backend()
    shipped = service.status()["model"]
    studio.add(1, OLD)
    studio.add(2, shipped)
    studio.add(3, "default-00000000")  # of the same name, from before an update
    studio.add(4, "yolo-v8", OLD)
    studio.add(5, NEW)
    studio.add(6, OLD, NEW)  # retrieved by hand meanwhile: that one is shown
    studio.add(7, NEW, OLD)  # to and fro: the old one is shown
    studio.add(8, NEWER)
    studio.add(9, "yolo-v8", "label-studio-8.1795850291@1", "default")
    studio.add(10)
    studio.add(11, OLD, annotations=[{}], total_annotations=1)
    studio.add(12, OLD, annotations=[{}], cancelled_annotations=1)
    studio.add(13, OLD, draft_exists=True)
    before = studio.versions()
    # of these, 6 and 13 are known to need nothing only when they are looked at
    assert refreshed(service) == [(8, 8, 0, 6)]
    changed = {1: [NEW], 2: [NEW], 3: [NEW], 4: ["yolo-v8", NEW], 7: [NEW, NEW], 8: [NEW]}
    assert studio.versions() == {**before, **changed}
    assert studio.tasks[1]["predictions"][0]["result"] == [{"id": "found00001"}]
    assert len(studio.patches) == 6
    assert len(studio.queries) == 5
    assert refreshed(service) == [(8, 8, 0, 6)]  # once for each model
    assert len(studio.queries) == 5
    service.swap_model(KEY, OLD)
    assert refreshed(service)[0] == (8, 8, 0, 8)  # rolled back
    assert studio.versions()[6] == [OLD, OLD]
    assert studio.versions()[7] == [NEW, OLD]
    assert service.problems.documents() == []


def test_versions_are_told_apart_as_wholes() -> None:
    models = OwnModels(OLD, {NAME, "default"})
    assert not models.may_be_old(OLD)
    assert not models.may_be_old("")
    assert not models.may_be_old(f"{OLD}, yolo-v8, default")
    assert models.may_be_old(f"{OLD}0")
    assert models.may_be_old(f"{OLD},default-00000000")
    assert not models.is_ours(None)


def test_a_task_that_fails_keeps_its_prediction(studio: Studio, make_backend: MakeBackend) -> None:
    def find(_: Any, task: Any) -> None:
        if task.id == "2":
            raise ValueError("it makes no sense")

    service = make_backend(find)
    for task in (1, 2, 3):
        studio.add(task, OLD)
    studio.add(4, OLD, data={"other": "of another config"})
    assert refreshed(service) == [(4, 4, 2, 2)]
    assert studio.versions() == {1: [NEW], 2: [OLD], 3: [NEW], 4: [OLD]}
    told = {one["task"]: one["kind"] for one in service.problems.documents()}
    assert told == {"2": "internal", "4": "prompt"}


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({"automatic": False}, {}),
        ({"refresh_predictions": False}, {}),
        ({}, {"refresh_predictions": False}),
    ],
)
def test_it_can_be_switched_off(
    studio: Studio, make_backend: MakeBackend, settings: dict[str, Any], extra: dict[str, Any]
) -> None:
    service = make_backend(**settings)
    service.setup({"project": KEY, "schema": CONFIG, "extra_params": extra})
    studio.add(1, OLD)
    assert refreshed(service) == []
    assert studio.queries == []
    service.setup({"project": KEY, "schema": CONFIG, "extra_params": {"output": "brush"}})
    is_off = bool(settings)
    assert refreshed(service) == ([] if is_off else [(1, 1, 0, 1)])


def test_a_prediction_that_is_refused_is_told_and_the_others_go_on(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_backend()
    client = service.access.client(service.projects.get(KEY))
    assert client is not None
    sent = client._sent

    def refuse(method: str, path: str, *others: Any) -> Any:
        if (method, path) == ("PATCH", "/api/predictions/1/"):
            return SimpleNamespace(ok=False, status_code=400, text="too large")
        return sent(method, path, *others)

    monkeypatch.setattr(client, "_sent", refuse)
    studio.add(1, OLD)
    studio.add(2, OLD)
    assert refreshed(service) == [(2, 2, 1, 1)]
    assert studio.versions() == {1: [OLD], 2: [NEW]}
    (problem,) = service.problems.documents()
    assert problem["task"] == "1"
    assert "too large" in problem["message"]


def test_a_project_of_another_label_studio_or_without_a_config_is_not_touched(
    studio: Studio, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_backend()
    studio.add(1, OLD)
    monkeypatch.setitem(PROJECT, "created_at", "2027-01-01T00:00:00Z")
    assert refreshed(service) == []
    monkeypatch.undo()
    monkeypatch.setitem(PROJECT, "label_config", "<View/>")
    service.swap_model(KEY, NEWER)
    assert refreshed(service) == []
    (problem,) = service.problems.documents()
    assert "cannot be made anew" in problem["message"]
