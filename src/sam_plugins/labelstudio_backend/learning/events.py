"""Webhooks: written down at once, applied later, in whatever order and however often they come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sam_plugins.labelstudio_backend.learning import mirror
from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.jobs import request_training
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.learning.packing import packed_payload

_KEPT_REFUSALS = 200


class EventQueue:
    """Events that wait until they are applied.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, payload: Mapping[str, Any]) -> None:
        """Write an event down; it survives whatever happens to the program.

        Raises
        ------
        LearningError
            If it cannot be written.
        """
        text = json.dumps(packed_payload(payload), separators=(",", ":"))
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO events (received_at, payload) VALUES (?, ?)", (now(), text)
            )

    def count(self) -> int:
        """Return how many wait."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    def refused(self) -> list[str]:
        """Return why events could not be applied, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT reason FROM refused_events ORDER BY number DESC")
            return [str(row[0]) for row in rows]

    def apply_next(self) -> bool:
        """Apply the oldest event and forget it, both or neither; return whether there was one.

        Raises
        ------
        LearningError
            If the database cannot be written; the event waits on.
        """
        with self._database.writing() as connection:
            row = connection.execute("SELECT * FROM events ORDER BY number LIMIT 1").fetchone()
            if row is None:
                return False
            connection.execute("SAVEPOINT event")
            try:
                _apply(connection, json.loads(row["payload"]), row["received_at"])
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                connection.execute("ROLLBACK TO event")
                _refuse(connection, row, f"{type(error).__name__}: {error}")
            connection.execute("DELETE FROM events WHERE number = ?", (row["number"],))
        return True


def _apply(connection: sqlite3.Connection, event: Mapping[str, Any], received_at: float) -> None:
    """Bring an event into the mirror.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is not what Label Studio sends.
    """
    key = key_of(event.get("project"))
    if key is None:
        raise ValueError(
            f"an event must name its project with a number, got {event.get('project')!r}"
        )
    action = event["action"]
    if isinstance(event["project"], Mapping):
        mirror.put_project(connection, key, event["project"])
    handler = _HANDLERS.get(action)
    if handler is not None:
        handler(connection, key, event, received_at)


def _annotated(
    connection: sqlite3.Connection, key: str, event: Mapping[str, Any], received_at: float
) -> None:
    """Take one annotation or several."""
    task = event.get("task")
    one = event.get("annotation")
    for annotation in [*([one] if one else []), *event.get("annotations", [])]:
        data = task.get("data") if isinstance(task, Mapping) else None
        number = annotation["task"] if "task" in annotation or task is None else task["id"]
        mirror.put_task(connection, key, int(number), data, received_at)
        is_new = mirror.put_annotation(connection, key, int(number), annotation, received_at)
        if is_new:
            mirror.count_annotation(connection, key)


def _annotations_deleted(
    connection: sqlite3.Connection, key: str, event: Mapping[str, Any], received_at: float
) -> None:
    """Forget annotations, also those that are told of later."""
    for one in event["annotations"]:
        mirror.delete_annotation(connection, key, int(one["id"]), received_at)


def _tasks_deleted(
    connection: sqlite3.Connection, key: str, event: Mapping[str, Any], received_at: float
) -> None:
    """Forget tasks with their annotations."""
    for one in event["tasks"]:
        mirror.delete_task(connection, key, int(one["id"]), received_at)


def _training_wanted(
    connection: sqlite3.Connection, key: str, event: Mapping[str, Any], _received_at: float
) -> None:
    """Ask for a training."""
    request_training(connection, key, str(event.get("reason") or "asked for in Label Studio"))


_Handler = Callable[[sqlite3.Connection, str, Mapping[str, Any], float], None]
_HANDLERS: dict[str, _Handler] = {
    "ANNOTATION_CREATED": _annotated,
    "ANNOTATIONS_CREATED": _annotated,
    "ANNOTATION_UPDATED": _annotated,
    "ANNOTATIONS_DELETED": _annotations_deleted,
    "TASKS_DELETED": _tasks_deleted,
    "START_TRAINING": _training_wanted,
}


def _refuse(connection: sqlite3.Connection, row: sqlite3.Row, reason: str) -> None:
    """Keep an event that makes no sense, for people; the others go on."""
    connection.execute(
        "INSERT INTO refused_events VALUES (?, ?, ?, ?)",
        (row["number"], row["received_at"], row["payload"][:10_000], reason),
    )
    connection.execute(
        "DELETE FROM refused_events WHERE number <= (SELECT max(number) FROM refused_events) - ?",
        (_KEPT_REFUSALS,),
    )
