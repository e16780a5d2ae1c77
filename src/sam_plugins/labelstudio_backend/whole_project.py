"""All pictures of a project encoded before anybody opens them, into the cache of the backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sam_plugins.errors import LabelStudioError, SamPluginsError
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.label_config import ConfigError, LabelConfig, read_config
from sam_plugins.labelstudio_backend.lanes import Priority
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.payload import Task
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.service import Service


@dataclass(frozen=True)
class Prepared:
    """How far it is.

    Attributes
    ----------
    done, total : int
        Tasks.
    failed : int
        Of those that are done, without a picture.
    problem : str
        Of the last task; empty where there was none.
    """

    done: int
    total: int
    failed: int
    problem: str = ""


def prepare_project(service: Service, number: int) -> Iterator[Prepared]:
    """Encode the pictures of every task of a project, with the model that answers there.

    What is in the cache already is passed over quickly. A backend that runs on the same folder
    finds the embeddings on the disk; it need not run.

    Parameters
    ----------
    service : Service
        With address and token of Label Studio in its settings.
    number : int
        Of the project in Label Studio.

    Yields
    ------
    Prepared
        After each task.

    Raises
    ------
    LabelStudioError
        If Label Studio cannot be asked, or has no such project.
    ConfigError
        If the labelling config makes no sense.
    """
    engine = service.parts().engine
    client = engine.access.client(service.projects.get(""))
    if client is None:
        raise LabelStudioError("the address of Label Studio is not known: set SAM_PLUGINS_LS_URL")
    document = client.get(f"/api/projects/{number}/")
    project = service.projects.get(key_of(document) or "")
    config = read_config(str(document.get("label_config") or ""))
    done = failed = 0
    for one, total in client.tasks(number):
        task = Task(str(one["id"]), one["data"])
        problem = _problem_of(engine, project, task, config)
        done, failed = done + 1, failed + bool(problem)
        yield Prepared(done, total, failed, problem)


def _problem_of(engine: Engine, project: Project, task: Task, config: LabelConfig) -> str:
    """Encode the pictures of a task; return why one could not be."""
    try:
        for image in config.for_data(task.data).images:
            for url in task.urls(image):
                engine.embedding(project, task, url, Priority.PREWARM)
    except (SamPluginsError, PayloadError, ConfigError, ValueError) as error:
        return f"task {task.id}: {error}"
    return ""
