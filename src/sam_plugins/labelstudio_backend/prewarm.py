"""Embeddings made before somebody needs them: of the task that is opened, and of the next ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.label_config import LabelConfig
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.payload import Task
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.projects import Project

_MOST_WAITING = 64


class Prewarmer:
    """Encodes pictures when nothing else is to be done.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="prewarm")
        self._waiting = 0
        self._lock = threading.Lock()

    def after(self, project: Project, task: Task, config: LabelConfig) -> None:
        """Encode the tasks that come after one that was opened, in the background."""
        if project.settings.prewarm_next and task.id.isdigit():
            self._submit(lambda: self._next(project, task, config))

    def close(self) -> None:
        """Drop what waits."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        """Queue work, unless there is more than enough."""
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                return
            self._waiting += 1

        def run() -> None:
            try:
                work()
            except (SamPluginsError, PayloadError, ValueError, TypeError, KeyError) as error:
                LOG.info("not prewarmed: %s", error)
            finally:
                with self._lock:
                    self._waiting -= 1

        try:
            self._workers.submit(run)
        except RuntimeError:  # shutting down
            with self._lock:
                self._waiting -= 1

    def _next(self, project: Project, task: Task, config: LabelConfig) -> None:
        """Ask Label Studio which tasks that nobody has annotated come next, and encode them."""
        client = self._engine.access.client(project)
        if client is None or not project.id.isdigit():
            return
        wanted = (("id", "greater", int(task.id)), ("total_annotations", "equal", 0))
        items = [
            {
                "filter": f"filter:tasks:{name}",
                "operator": operator,
                "type": "Number",
                "value": value,
            }
            for name, operator, value in wanted
        ]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
        answer = client.get(
            "/api/tasks/",
            project=project.id,
            page=1,
            page_size=project.settings.prewarm_next,
            query=json.dumps(query),
        )
        found = answer.get("tasks", []) if isinstance(answer, dict) else answer
        for one in found[: project.settings.prewarm_next]:
            self._encode(project, Task(str(one["id"]), one["data"]), config)

    def _encode(self, project: Project, task: Task, config: LabelConfig) -> None:
        """Encode the pictures of a task."""
        for image in config.for_data(task.data).images:
            for url in task.urls(image):
                self._engine.embedding(project, task, url, Priority.PREWARM)
