"""What answers share: models, the lane, pictures, access, memory, problems; made once a server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_plugins.errors import LabelStudioError, is_out_of_memory
from sam_plugins.labelstudio_backend.access import Access
from sam_plugins.labelstudio_backend.download import OF_SERVER, DownloadFailedError
from sam_plugins.labelstudio_backend.encoded import EncodedPictures
from sam_plugins.labelstudio_backend.images import PictureFiles, Source, decode_rgb
from sam_plugins.labelstudio_backend.label_config import ConfigError, LabelConfig, read_config
from sam_plugins.labelstudio_backend.lanes import Lane, Priority
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.metrics import Metrics
from sam_plugins.labelstudio_backend.models import Pool, version_of
from sam_plugins.labelstudio_backend.payload import PredictRequest, Task
from sam_plugins.labelstudio_backend.problems import Problems
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.sessions import Sessions
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.clip import Clip
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.types import ImageEmbedding


@dataclass(frozen=True)
class Engine:
    """The parts that answers are made with."""

    settings: Settings
    models: Pool[Model]
    clips: Pool[Clip]
    lane: Lane
    files: PictureFiles
    pictures: EncodedPictures
    access: Access
    sessions: Sessions
    problems: Problems
    metrics: Metrics

    def embedding(
        self, project: Project, task: Task, url: str, priority: Priority
    ) -> tuple[Model, ImageEmbedding]:
        """Return the model of a project and the embedding of a picture.

        Raises
        ------
        SamPluginsError
            If one of them cannot be had.
        """
        source = self.source(project, task, url)
        embedding = self.pictures.get(
            source,
            lambda: self.models.get(project.model),
            f"{project.model}\0{version_of(project.model)}",
            priority,
        )
        return self.models.get(project.model), embedding

    def rgb(self, project: Project, task: Task, url: str) -> NDArray[np.uint8]:
        """Return what models see of a picture; within the limit of pixels, as when it is encoded.

        Raises
        ------
        ImageError
            If it cannot be had.
        """
        return decode_rgb(self.files.get(self.source(project, task, url)).content, self.settings)

    def source(self, project: Project, task: Task, url: str) -> Source:
        """Return where a picture of a task is."""
        return Source(url, task.id, self.access.client(project))

    def config(self, project: Project, request: PredictRequest) -> LabelConfig:
        """Return the labelling config of a request, or the one of the project's setup.

        Raises
        ------
        ConfigError
            If there is none, or it cannot be used.
        """
        text = request.config or project.config
        if not text:
            raise ConfigError(
                "the request holds no label_config, and no setup of the project was seen; open the "
                "project's machine learning settings once"
            )
        return read_config(text)

    def judge(self, name: str, complaint: str, project: Project) -> None:
        """Keep what is wrong with a project's config for as long as it is; an empty one ends it.

        Parameters
        ----------
        name : str
            Of what is judged.
        complaint : str
            What is wrong, with the cure; empty where nothing is.
        project : Project
        """
        if not complaint:
            self.problems.end(name)
        elif self.problems.stand(name, "config", complaint, project=project.key):
            self.metrics.problems.labels("config").inc()
            LOG.warning(complaint, extra={"kind": "config", "project": project.key})

    def report(self, error: Exception, project: Project, task: Task | None = None) -> str:
        """Log a problem, keep it for the status page, and return its kind."""
        kind, message = _told(error)
        number = "" if task is None else task.id
        self.problems.add(
            kind, message, project=project.key, task=number, is_of_server=_is_of_server(error)
        )
        self.metrics.problems.labels(kind).inc()
        LOG.warning(
            message,
            extra={"kind": kind, "project": project.key, "task": number},
            exc_info=error if kind == "internal" else None,
        )
        return kind


def _told(error: Exception) -> tuple[str, str]:
    """Return the kind of an error and what people can do about it."""
    from sam_plugins.errors import ImageError, SamPluginsError, WeightsError
    from sam_plugins.labelstudio_backend.problems import PayloadError

    kinds: tuple[tuple[type[Exception], str], ...] = (
        (ConfigError, "config"),
        (PayloadError, "prompt"),
        (ImageError, "image"),
        (LabelStudioError, "label_studio"),
        (WeightsError, "model"),
        (SamPluginsError, "other"),
    )
    for family, kind in kinds:
        if isinstance(error, family):
            return kind, str(error)
    if is_out_of_memory(error):
        return "memory", "memory ran out; allow the backend more, or take smaller pictures"
    return "internal", f"{type(error).__name__}: {error}; this is a mistake of sam-plugins"


def _is_of_server(error: Exception) -> bool:
    """Return whether an error may come of a Label Studio that is down or refuses the token."""
    if isinstance(error, DownloadFailedError):
        return error.is_of_server
    return isinstance(error, LabelStudioError) and error.status in OF_SERVER
