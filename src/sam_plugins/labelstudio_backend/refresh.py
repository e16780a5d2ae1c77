"""Predictions that are missing or old, made in the background: after a restart, or a promotion.

What batches had left to do when an earlier backend ended is done first. Then predictions that an
earlier model of a project made are made anew when another one is in use.

Label Studio's editor shows the last prediction of a task, whichever model made it, and what cites
one that was deleted meanwhile cannot be submitted. So the new prediction takes the place of the old
one. Which ones are old is asked of Label Studio alone, so that a restart goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.batch import Batches
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.label_config import ConfigError, LabelConfig, read_config
from sam_plugins.labelstudio_backend.learning.keys import key_of, model_name_of
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.models import family_of, version_of
from sam_plugins.labelstudio_backend.payload import Task
from sam_plugins.labelstudio_backend.projects import Project, Projects

_RETRY_SECONDS = 60.0
_NOT_FOUND = 404


@dataclass(frozen=True)
class OwnModels:
    """The models whose predictions are ours.

    Parameters
    ----------
    version : str
        The one in use.
    families : collection of str
        See :func:`~.models.family_of`.
    """

    version: str
    families: Collection[str]

    def is_ours(self, version: object) -> bool:
        """Return whether one of them made predictions of a version."""
        return isinstance(version, str) and family_of(version) in self.families

    def may_be_old(self, versions: str) -> bool:
        """Return whether the last of a task's predictions of ours may be of an earlier model.

        Parameters
        ----------
        versions : str
            Of all its predictions, with commas, in no order.
        """
        each = [one.strip() for one in versions.split(",")]
        return any(self.is_ours(one) and one != self.version for one in each)

    def replaced(self, document: dict[str, Any]) -> int | None:
        """Return which prediction of a task is to be made anew; None where somebody has begun it.

        Parameters
        ----------
        document : mapping
            The task as Label Studio's API tells it.
        """
        begun = ("total_annotations", "cancelled_annotations", "annotations", "draft_exists")
        if any(document.get(name) for name in begun):
            return None
        ours = [one for one in document["predictions"] if self.is_ours(one["model_version"])]
        last = max(ours, key=lambda one: int(one["id"]), default=None)
        return None if last is None or last["model_version"] == self.version else int(last["id"])

    def is_predicted(self, document: dict[str, Any]) -> bool:
        """Return whether a task, as Label Studio's API tells it, has one of the model in use."""
        return any(one["model_version"] == self.version for one in document["predictions"])

    def query(self) -> dict[str, Any]:
        """Return what asks for tasks that nobody has annotated, with predictions of ours."""
        counts = ("total_annotations", "cancelled_annotations")
        nobody = [(name, "equal", "Number", 0) for name in counts]
        ours = ("predictions_model_versions", "contains", "List", sorted(self.families))
        items = [
            {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}
            for name, operator, kind, value in (*nobody, ours)
        ]
        return {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}


class Refresher:
    """Makes predictions anew in the background, one project after the other; safe with threads.

    Parameters
    ----------
    engine : Engine
    projects : Projects
    batches : Batches
    """

    def __init__(self, engine: Engine, projects: Projects, batches: Batches) -> None:
        self._engine = engine
        self._projects = projects
        self._batches = batches
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="refresh")
        self._at_work: set[str] = set()
        self._fresh: dict[str, tuple[str, bool]] = {}
        self._again_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def look(self, key: str) -> None:
        """Begin with a project whose model is another one than the last time; wait for nothing."""
        project = self._projects.get(key)
        if not project.settings.automatic:
            return
        version = version_of(project.model)
        with self._lock:
            is_fresh = self._fresh.get(key) == (version, project.settings.refresh_predictions)
            if is_fresh or key in self._at_work or time.monotonic() < self._again_at.get(key, 0.0):
                return
            try:
                self._worker.submit(self._refresh, project, version)
            except RuntimeError:  # the backend ends
                return
            self._at_work.add(key)
            self._fresh.pop(key, None)

    def close(self) -> None:
        """Drop what waits; what is at work ends with the batches."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _refresh(self, project: Project, version: str) -> None:
        """Refresh a project, or let it be tried again later."""
        key, problems = project.key, self._engine.problems
        is_fresh, again_at = False, 0.0
        try:
            # Asked first: what is stored while this goes on is looked at once more.
            is_unsettled = self._batches.may_store_others(project)
            if self._is_renewed(project, version):
                is_fresh = not is_unsettled
                again_at = time.monotonic() + _RETRY_SECONDS
            problems.end(_name(key))
        except (LabelStudioError, ConfigError) as error:
            again_at = time.monotonic() + _RETRY_SECONDS
            told = f"predictions of an earlier model cannot be made anew: {error}"
            problems.stand(_name(key), "label_studio", told, project=key)
        except Exception as error:  # noqa: BLE001  # other projects go on
            again_at = time.monotonic() + _RETRY_SECONDS
            self._engine.report(error, project)
        with self._lock:
            self._at_work.discard(key)
            self._again_at[key] = again_at
            if is_fresh:
                self._fresh[key] = (version, project.settings.refresh_predictions)

    def _is_renewed(self, project: Project, version: str) -> bool:
        """Make old predictions of a project anew; return whether its model is still the same."""
        client = self._engine.access.client(project)
        if client is None or not project.id.isdecimal():
            return True
        document = _found(client, f"/api/projects/{project.id}/")
        if document is None or ("." in project.key and key_of(document) != project.key):
            return True  # deleted, or of another server: the comparison of annotations tells that
        config = read_config(str(document.get("label_config") or ""))
        named = (version, version_of(self._engine.settings.model))
        families = {model_name_of(project.key), *map(family_of, named)} - {""}
        models = OwnModels(version, families)
        self._take_up(project, config, client, models)
        if not project.settings.refresh_predictions:
            self._engine.problems.end(_name(project.key))
            return True
        tasks = [
            Task(str(one["id"]), one["data"])
            for one, _ in client.tasks(int(project.id), models.query())
            if models.may_be_old(one["predictions_model_versions"])
        ]
        self._engine.problems.end(_name(project.key))
        if not tasks:
            return True
        changed = threading.Event()

        def goes_on() -> bool:
            if version_of(self._projects.get(project.key).model) != version:
                changed.set()
            return not changed.is_set()

        def replaced(task: Task) -> int | None:
            found = _found(client, f"/api/tasks/{task.id}/") if goes_on() else None
            return None if found is None else models.replaced(found)

        LOG.info(
            "predictions are made anew",
            extra={"project": project.key, "model": version, "tasks": len(tasks)},
        )
        self._batches.renew(project, tasks, config, replaced=replaced, goes_on=goes_on)
        return not changed.is_set()

    def _take_up(
        self, project: Project, config: LabelConfig, client: LabelStudioClient, models: OwnModels
    ) -> None:
        """Go on with batches of an earlier backend, where tasks are without a prediction."""
        tasks = []
        unfinished = self._batches.unfinished
        for number in unfinished.of_earlier(project.key):
            document = _found(client, f"/api/tasks/{number}/")
            if document is None or models.is_predicted(document):
                unfinished.end(project.key, number)
            else:
                tasks.append(Task(number, document["data"]))
        self._batches.take_up(project, tasks, config)


def _name(key: str) -> str:
    """Return the name of a project's problem, see :meth:`~.problems.Problems.stand`."""
    return f"refreshing {key}"


def _found(client: LabelStudioClient, path: str) -> dict[str, Any] | None:
    """Return what Label Studio tells of something; None where it was deleted."""
    try:
        document: dict[str, Any] = client.get(path)
    except LabelStudioError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return document
