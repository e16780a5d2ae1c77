"""A Label Studio as far as it is asked, and looks at what became of its predictions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.labelstudio_backend.learning.helpers import KEY
from tests.labelstudio_backend.payloads import data_url, disk, picture_of

from sam_plugins.labelstudio_backend.service import Service

NAME = f"label-studio-{KEY}"
OLD, NEW, NEWER = (f"{NAME}@{number}" for number in (1, 2, 10))
PICTURE = data_url(picture_of(disk((60, 80), (40, 30), 15)))
REASON = "another model is in use"
MakeBackend = Callable[..., Service]


class Studio:
    """Label Studio as far as it is asked, with tasks as its API tells them.

    ``status`` is what it answers everything with, where that is set.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.patches: list[tuple[int, str]] = []
        self.queries: list[dict[str, Any]] = []
        self.status = 0
        self.url = ""
        self._number = 0

    def add(self, task: int, *versions: str, **others: Any) -> None:
        """Add a task with predictions of some versions."""
        predictions = []
        for version in versions:
            self._number += 1
            predictions.append({"id": self._number, "model_version": version, "result": []})
        self.tasks[task] = {
            "id": task,
            "data": {"image": PICTURE},
            "annotations": [],
            "total_annotations": 0,
            "cancelled_annotations": 0,
            "draft_exists": False,
            "predictions": predictions,
            **others,
        }

    def store(self, task: int, prediction: dict[str, Any]) -> None:
        """Store a prediction, as Label Studio does with those of an answer."""
        self._number += 1
        self.tasks[task]["predictions"].append({**prediction, "id": self._number})

    def versions(self) -> dict[int, list[str]]:
        """The versions of each task's predictions."""
        return {
            number: [one["model_version"] for one in task["predictions"]]
            for number, task in self.tasks.items()
        }

    def listed(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """The tasks of a listing, by the filters that Label Studio has."""
        values = {
            one["filter"].removeprefix("filter:tasks:"): one["value"]
            for one in query["filters"]["items"]
        }
        names = values.pop("predictions_model_versions")
        return [
            {
                "id": task["id"],
                "data": task["data"],
                # PostgreSQL tells them with spaces, SQLite without
                "predictions_model_versions": ", ".join(self.versions()[task["id"]]),
            }
            for _, task in sorted(self.tasks.items())
            if all(task[name] == value for name, value in values.items())
            and any(name in one for name in names for one in self.versions()[task["id"]])
        ]


def look(service: Service) -> list[tuple[str, int, int]]:
    """Look, wait until nothing is at work, and return batches, newest first: why, tasks, posted."""
    service.refresh_predictions(KEY)
    refresher = service.parts()._refresher
    end = time.monotonic() + 60
    while refresher._at_work:
        assert time.monotonic() < end, service.status()
        time.sleep(0.01)
    return [(one["reason"], one["tasks"], one["posted"]) for one in service.status()["batches"]]


def refreshed(service: Service) -> list[tuple[int, int, int, int]]:
    """Look, and return how the batches went, newest first."""
    look(service)
    batches = service.status()["batches"]
    assert {one["reason"] for one in batches} <= {REASON}
    return [(one["tasks"], one["done"], one["failed"], one["posted"]) for one in batches]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
