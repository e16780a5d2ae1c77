"""What events did not tell, or told wrong, is mended by what Label Studio's API says."""

from __future__ import annotations

from dataclasses import dataclass

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.learning import mirror
from sam_plugins.labelstudio_backend.learning.api import Api
from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.keys import key_of, project_id_of


@dataclass(frozen=True)
class Reconciled:
    """What a comparison with the API came to.

    Attributes
    ----------
    tasks : int
        With annotations.
    mended : int
        Annotations that were missing here, older, or gone there.
    """

    tasks: int
    mended: int


def reconcile(database: Database, api: Api, key: str) -> Reconciled:
    """Make the mirror of a project agree with Label Studio.

    Raises
    ------
    LabelStudioError
        If the API cannot be asked; nothing has changed then, and the reason is noted.
    LearningError
        If the database cannot be written.
    """
    try:
        return _reconciled(database, api, key)
    except LabelStudioError as error:
        with database.writing() as connection:
            connection.execute(
                "UPDATE projects SET reconcile_error = ? WHERE project = ?", (str(error), key)
            )
        raise


def _reconciled(database: Database, api: Api, key: str) -> Reconciled:
    """Fetch everything, then take it in one transaction."""
    asked_at = now()
    project = api.project(project_id_of(key))
    found = key_of(project)
    if found != key and "." in key:
        raise LabelStudioError(
            f"project {project['id']} of {api.url} is another one than annotations came from "
            f"({found}, expected {key}): does the address name the right Label Studio?"
        )
    tasks = list(api.annotated_tasks(project["id"]))
    listed = {int(one["id"]) for task in tasks for one in task["annotations"]}
    # While pages were turned, a task may have slipped from one to the other.
    missing = [one for one in mirror.known_annotations(database, key) if one not in listed]
    kept = [one for one in missing if api.has_annotation(one)]
    return Reconciled(
        len(tasks), mirror.take_listing(database, key, project, tasks, asked_at, kept)
    )
