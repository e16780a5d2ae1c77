"""How much is known of a project, for people."""

from __future__ import annotations

from typing import Any

from sam_plugins.errors import DatasetError
from sam_plugins.labelstudio_backend.config_check import explain_learning
from sam_plugins.labelstudio_backend.learning.cleaning import read_interface
from sam_plugins.labelstudio_backend.learning.database import Database


def counts(database: Database, key: str) -> dict[str, Any]:
    """Return how much is known of a project, ready for JSON."""
    with database.reading() as connection:
        project = connection.execute(
            "SELECT title, annotations_since_training, reconciled_at, reconcile_error "
            "FROM projects WHERE project = ?",
            (key,),
        ).fetchone()
        annotations = connection.execute(
            "SELECT count(*) FROM annotations WHERE project = ? AND is_deleted = 0", (key,)
        ).fetchone()[0]
        waiting = connection.execute(
            "SELECT count(*) FROM tasks WHERE project = ? AND stored_changes < changes", (key,)
        ).fetchone()[0]
        notes = connection.execute(
            "SELECT task, error FROM tasks WHERE project = ? AND error != '' LIMIT 10", (key,)
        ).fetchall()
        objects = connection.execute(
            "SELECT count(*) FROM objects WHERE project = ?", (key,)
        ).fetchone()[0]
        left_out = connection.execute(
            "SELECT reason, sum(regions) AS regions FROM left_out WHERE project = ? "
            "GROUP BY reason ORDER BY regions DESC, reason LIMIT 20",
            (key,),
        ).fetchall()
    return {
        **({} if project is None else dict(project)),
        "annotations": annotations,
        "objects": objects,
        "regions_left_out": {row["reason"]: row["regions"] for row in left_out},
        "tasks_waiting": waiting,
        "task_notes": {str(row["task"]): row["error"] for row in notes},
    }


def learned_from(database: Database, key: str) -> str:
    """Say what a project's annotations teach, or why nothing."""
    with database.reading() as connection:
        row = connection.execute(
            "SELECT label_config FROM projects WHERE project = ?", (key,)
        ).fetchone()
    if row is None or not row["label_config"]:
        return "not known yet"
    try:
        interface = read_interface(str(row["label_config"]))
    except DatasetError as error:
        return f"nothing: {error}"
    return "; ".join(explain_learning(interface, image.name) for image in interface.images)
