"""What is known of the tasks and annotations in Label Studio.

An annotation's newest state wins by its own time of change, so events may come twice or in any
order. What was deleted stays deleted, unless Label Studio's API, asked later, still has it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.packing import (
    packed_annotation,
    unpacked_annotation,
)

_FIRST_WAIT = 5.0
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class ChangedTask:
    """A task whose labels are not in the label store yet.

    Attributes
    ----------
    project : str
    task : int
    data : mapping or None
        None where no event told it.
    annotations : sequence of mapping
        Those that exist.
    label_config : str
    is_deleted : bool
    changes : int
        Which state this is.
    """

    project: str
    task: int
    data: Mapping[str, Any] | None
    annotations: Sequence[Mapping[str, Any]]
    label_config: str
    is_deleted: bool
    changes: int


def put_project(connection: sqlite3.Connection, key: str, project: Mapping[str, Any]) -> None:
    """Note a project's title and labelling interface; another interface is read anew."""
    connection.execute("INSERT OR IGNORE INTO projects (project) VALUES (?)", (key,))
    title, config = project.get("title"), project.get("label_config")
    if title:
        connection.execute("UPDATE projects SET title = ? WHERE project = ?", (str(title), key))
    if config:
        changed = connection.execute(
            "UPDATE projects SET label_config = ? WHERE project = ? AND label_config != ?",
            (str(config), key, str(config)),
        ).rowcount
        if changed:
            connection.execute("UPDATE tasks SET changes = changes + 1 WHERE project = ?", (key,))


def put_task(
    connection: sqlite3.Connection,
    key: str,
    task: int,
    data: Mapping[str, Any] | None,
    seen_at: float,
) -> None:
    """Note a task; what is known of its data stays where nothing is told."""
    text = None if data is None else json.dumps(data, sort_keys=True)
    connection.execute(
        "INSERT INTO tasks (project, task, data, seen_at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET changes = changes + (excluded.data IS NOT NULL AND "
        "excluded.data IS NOT tasks.data), data = coalesce(excluded.data, tasks.data)",
        (key, task, text, seen_at),
    )


def put_annotation(
    connection: sqlite3.Connection,
    key: str,
    task: int,
    annotation: Mapping[str, Any],
    seen_at: float,
) -> bool:
    """Take the state of an annotation unless a later one is known; return whether it is new."""
    number = int(annotation["id"])
    updated_at = _seconds(annotation.get("updated_at") or annotation.get("created_at"))
    known = connection.execute(
        "SELECT updated_at, is_deleted FROM annotations WHERE project = ? AND annotation = ?",
        (key, number),
    ).fetchone()
    if known is not None and (known["is_deleted"] or known["updated_at"] >= updated_at):
        return False
    if _is_deleted_task(connection, key, task):
        return False
    text = json.dumps(packed_annotation(annotation), separators=(",", ":"))
    connection.execute(
        "INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, ?, ?, 0, ?)",
        (key, number, task, updated_at, seen_at, text),
    )
    _touch(connection, key, task)
    return known is None


def count_annotation(connection: sqlite3.Connection, key: str) -> None:
    """Count an annotation that no training has seen."""
    connection.execute(
        "UPDATE projects SET annotations_since_training = annotations_since_training + 1 "
        "WHERE project = ?",
        (key,),
    )


def delete_annotation(
    connection: sqlite3.Connection, key: str, number: int, seen_at: float
) -> None:
    """Note that an annotation is gone, whether or not it was known."""
    known = connection.execute(
        "SELECT task FROM annotations WHERE project = ? AND annotation = ?", (key, number)
    ).fetchone()
    task = 0 if known is None else int(known["task"])
    connection.execute(
        "INSERT OR REPLACE INTO annotations VALUES (?, ?, ?, 0, ?, 1, '{}')",
        (key, number, task, seen_at),
    )
    if known is not None:
        _touch(connection, key, task)


def delete_task(connection: sqlite3.Connection, key: str, task: int, seen_at: float) -> None:
    """Note that a task is gone with its annotations, whether or not it was known."""
    connection.execute(
        "INSERT INTO tasks (project, task, is_deleted, seen_at) VALUES (?, ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET is_deleted = 1, seen_at = excluded.seen_at, "
        "changes = changes + 1",
        (key, task, seen_at),
    )
    connection.execute(
        "UPDATE annotations SET is_deleted = 1, content = '{}', seen_at = ? "
        "WHERE project = ? AND task = ?",
        (seen_at, key, task),
    )


def take_listing(
    database: Database,
    key: str,
    project: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    asked_at: float,
    kept: Sequence[int] = (),
) -> int:
    """Take what the API says for the truth of the moment when it was asked.

    Events that came since then are newer and stay.

    Parameters
    ----------
    database : Database
    key : str
    project : mapping
        With title and labelling interface.
    tasks : sequence of mapping
        Every task that has annotations, with all of them.
    asked_at : float
        Before the first request, by this machine's clock.
    kept : sequence of int
        Annotations that exist, though no task lists them.

    Returns
    -------
    int
        Annotations that differed from what was known.
    """
    mended = 0
    with database.writing() as connection:
        put_project(connection, key, project)
        listed = set(kept)
        for task in tasks:
            number = int(task["id"])
            _revive(connection, key, number, task, asked_at)
            put_task(connection, key, number, task["data"], asked_at)
            for annotation in task["annotations"]:
                listed.add(int(annotation["id"]))
                before = connection.total_changes
                if put_annotation(connection, key, number, annotation, asked_at):
                    count_annotation(connection, key)
                mended += connection.total_changes > before
        rows = connection.execute(
            "SELECT annotation FROM annotations WHERE project = ? AND is_deleted = 0 "
            "AND seen_at <= ?",
            (key, asked_at),
        ).fetchall()
        for row in rows:
            if row["annotation"] not in listed:
                delete_annotation(connection, key, row["annotation"], asked_at)
                mended += 1
        connection.execute(
            "UPDATE projects SET reconciled_at = ?, reconcile_error = '' WHERE project = ?",
            (asked_at, key),
        )
    return mended


def changed_tasks(
    database: Database, key: str | None = None, *, limit: int = 20
) -> list[tuple[str, int]]:
    """Return tasks whose labels have to be stored, those that failed once their time has come."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT project, task FROM tasks WHERE stored_changes < changes AND retry_at <= ? "
            "AND (? IS NULL OR project = ?) ORDER BY retry_at, seen_at LIMIT ?",
            (now(), key, key, limit),
        ).fetchall()
    return [(row["project"], row["task"]) for row in rows]


def read_task(database: Database, key: str, task: int) -> ChangedTask:
    """Return a task with its annotations, in one state."""
    with database.reading() as connection:
        row = connection.execute(
            "SELECT * FROM tasks WHERE project = ? AND task = ?", (key, task)
        ).fetchone()
        found = connection.execute(
            "SELECT content FROM annotations WHERE project = ? AND task = ? AND is_deleted = 0 "
            "ORDER BY annotation",
            (key, task),
        ).fetchall()
        config = connection.execute(
            "SELECT label_config FROM projects WHERE project = ?", (key,)
        ).fetchone()
    return ChangedTask(
        project=key,
        task=task,
        data=None if row["data"] is None else json.loads(row["data"]),
        annotations=[unpacked_annotation(json.loads(one["content"])) for one in found],
        label_config="" if config is None else config["label_config"],
        is_deleted=bool(row["is_deleted"]),
        changes=row["changes"],
    )


def note_stored(
    database: Database,
    task: ChangedTask,
    objects: Mapping[str, bool],
    note: str = "",
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Note that a state of a task is in the label store, with what objects, and what is left out.

    Parameters
    ----------
    database : Database
    task : ChangedTask
    objects : mapping of str to bool
        Their ids, and whether they were made elsewhere.
    note : str
        What could not be read, for people.
    left_out : mapping of str to int, optional
        Why regions are no objects, and how many.
    """
    with database.writing() as connection:
        connection.execute(
            "UPDATE tasks SET stored_changes = ?, failures = 0, retry_at = 0, error = ? "
            "WHERE project = ? AND task = ?",
            (task.changes, note, task.project, task.task),
        )
        connection.execute(
            "DELETE FROM objects WHERE project = ? AND task = ?", (task.project, task.task)
        )
        connection.executemany(
            "INSERT INTO objects VALUES (?, ?, ?, ?)",
            [(task.project, task.task, *one) for one in objects.items()],
        )
        connection.execute(
            "DELETE FROM left_out WHERE project = ? AND task = ?", (task.project, task.task)
        )
        connection.executemany(
            "INSERT INTO left_out VALUES (?, ?, ?, ?)",
            [(task.project, task.task, *one) for one in (left_out or {}).items()],
        )


def note_failure(database: Database, key: str, task: int, reason: str) -> None:
    """Note why a task could not be stored; it is tried again, at growing intervals."""
    with database.writing() as connection:
        failures = connection.execute(
            "SELECT failures FROM tasks WHERE project = ? AND task = ?", (key, task)
        ).fetchone()["failures"]
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(failures, 20))
        connection.execute(
            "UPDATE tasks SET failures = failures + 1, retry_at = ?, error = ? "
            "WHERE project = ? AND task = ?",
            (now() + wait, reason, key, task),
        )


def try_again(database: Database, key: str) -> None:
    """Forget the waits of a project's tasks, before a training."""
    with database.writing() as connection:
        connection.execute("UPDATE tasks SET retry_at = 0 WHERE project = ?", (key,))


def objects_of(database: Database, key: str, task: int) -> dict[str, bool]:
    """Return the objects of a task in the label store, and whether they were made elsewhere."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT object_id, is_born_here FROM objects WHERE project = ? AND task = ?",
            (key, task),
        ).fetchall()
    return {row["object_id"]: bool(row["is_born_here"]) for row in rows}


def known_annotations(database: Database, key: str) -> list[int]:
    """Return the annotations of a project that exist, as far as is known."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT annotation FROM annotations WHERE project = ? AND is_deleted = 0", (key,)
        ).fetchall()
    return [row["annotation"] for row in rows]


def known_projects(database: Database) -> list[str]:
    """Return the keys of all projects that were heard of."""
    with database.reading() as connection:
        rows = connection.execute("SELECT project FROM projects ORDER BY project").fetchall()
    return [row["project"] for row in rows]


def was_compared(database: Database, key: str) -> bool:
    """Return whether a project was ever compared with Label Studio, so that it was there."""
    with database.reading() as connection:
        row = connection.execute(
            "SELECT reconciled_at FROM projects WHERE project = ?", (key,)
        ).fetchone()
    return row is not None and bool(row["reconciled_at"])


def _is_deleted_task(connection: sqlite3.Connection, key: str, task: int) -> bool:
    """Return whether a task is gone."""
    row = connection.execute(
        "SELECT is_deleted FROM tasks WHERE project = ? AND task = ?", (key, task)
    ).fetchone()
    return row is not None and bool(row["is_deleted"])


def _revive(
    connection: sqlite3.Connection,
    key: str,
    task: int,
    listed: Mapping[str, Any],
    asked_at: float,
) -> None:
    """Forget that things were deleted which the API still had, asked later."""
    connection.execute(
        "UPDATE tasks SET is_deleted = 0, changes = changes + 1 "
        "WHERE project = ? AND task = ? AND is_deleted = 1 AND seen_at < ?",
        (key, task, asked_at),
    )
    connection.executemany(
        "DELETE FROM annotations WHERE project = ? AND annotation = ? AND is_deleted = 1 "
        "AND seen_at < ?",
        [(key, int(one["id"]), asked_at) for one in listed["annotations"]],
    )


def _touch(connection: sqlite3.Connection, key: str, task: int) -> None:
    """Mark a task's labels as changed."""
    connection.execute(
        "UPDATE tasks SET changes = changes + 1, failures = 0, retry_at = 0 "
        "WHERE project = ? AND task = ?",
        (key, task),
    )


def _seconds(time: Any) -> float:  # noqa: ANN401
    """Return a time as seconds since 1970; 0 where none is told."""
    if time is None:
        return 0.0
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
