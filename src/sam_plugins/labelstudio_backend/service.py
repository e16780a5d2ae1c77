"""What the backend does, without any web framework: each method answers one route."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__
from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.access import Access, what_is_missing
from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.metrics import Metrics
from sam_plugins.labelstudio_backend.models import exact_name, version_of
from sam_plugins.labelstudio_backend.payload import read_project, read_request
from sam_plugins.labelstudio_backend.problems import PayloadError, Problems
from sam_plugins.labelstudio_backend.projects import Projects
from sam_plugins.labelstudio_backend.settings import Settings

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.parts import Parts
    from sam_plugins.model.inference.loading import Model


_LOADING_SECONDS = 5.0


@dataclass(frozen=True)
class PredictAnswer:
    """The answer to a predict request.

    Parameters
    ----------
    results : sequence
        One for each task.
    model_version : str
        Of the model that answered.
    kind : str
        ``interactive``, ``open`` or ``batch``.
    noted : mapping
        For the log.
    """

    results: Sequence[Any]
    model_version: str
    kind: str
    noted: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return what goes over the wire."""
        return {"results": list(self.results), "model_version": self.model_version}


class Service:
    """The backend; safe with threads.

    Everything that needs the network's libraries is loaded in the background from the start, so
    that ``health`` and ``setup`` answer at once.

    Parameters
    ----------
    settings : Settings
    load : callable, optional
        From the name of a model to the model; :func:`~sam_plugins.load_model` by default.
    """

    def __init__(self, settings: Settings, *, load: Callable[[str], Model] | None = None) -> None:
        self.settings = settings
        self.load_model = load
        self.metrics = Metrics()
        self.problems = Problems()
        self.projects = Projects(settings)
        self.access = Access(settings)
        self.cluster = Cluster(settings)
        self._began = time.time()
        self._parts: Parts | None = None
        self._parts_lock = threading.Lock()
        self._loader = threading.Thread(target=self._load, name="model-loader", daemon=True)
        self._loader.start()

    def health(self) -> dict[str, Any]:
        """Return that the server is up; waits for nothing."""
        return {"status": "UP", "model_class": "sam_plugins", "version": __version__}

    def setup(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Take in what a setup says, and return the model version of the project.

        Raises
        ------
        PayloadError
            If a value is of the wrong kind.
        """
        key = read_project(payload.get("project"))
        texts = {name: payload.get(name) or "" for name in ("schema", "hostname", "access_token")}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise PayloadError(f"{name} must be a text, got {type(text).__name__}")
        project = self.projects.set_up(
            key,
            config=texts["schema"],
            hostname=texts["hostname"],
            token=texts["access_token"],
            extra_params=payload.get("extra_params"),
        )
        if project.complaint:
            self.problems.add("config", project.complaint, project=key)
        return {"model_version": version_of(project.model)}

    def predict(self, payload: Mapping[str, Any]) -> PredictAnswer:
        """Answer what somebody drew, or a batch of tasks.

        Raises
        ------
        PayloadError
            If it is no request of Label Studio.
        """
        request = read_request(payload)
        project = self.projects.get(request.project)
        parts = self.parts()
        version = version_of(project.model)
        noted = {"project": request.project, "tasks": len(request.tasks)}
        if request.prompts is not None:
            from sam_plugins.labelstudio_backend.results import finite_score

            suggestion = parts.suggest(project, request)
            result = {
                "result": list(suggestion.items),
                "score": finite_score(suggestion.score),
                "model_version": version,
            }
            noted |= {"task": request.tasks[0].id, "regions": len(suggestion.items)}
            return PredictAnswer([result], version, "interactive", noted)
        kind = "open" if len(request.tasks) == 1 else "batch"
        return PredictAnswer(parts.predict(project, request), version, kind, noted)

    def versions(self, project: str | None) -> list[str]:
        """Return the model versions of a project, or of all that are known."""
        if project:
            return [version_of(self.projects.get(project).model)]
        known = [version_of(one.model) for one in self.projects.all()]
        return list(dict.fromkeys([*known, version_of(self.settings.model)]))

    def model_version(self, project: str) -> str:
        """Return the model version that a project is answered with."""
        return version_of(self.projects.get(project).model)

    def swap_model(self, project: str, model_name: str) -> str:
        """Let another model answer a project from now on, without a dropped request.

        The model is loaded first; requests under way end with the one they began with.

        Parameters
        ----------
        project : str
            ``"ID.TIME"``.
        model_name : str
            As :func:`~sam_plugins.load_model` takes it, such as ``"cells@4"``.

        Returns
        -------
        str
            The new model version.

        Raises
        ------
        SamPluginsError
            If it cannot be loaded; the old one stays.
        """
        name = exact_name(model_name)
        self.parts().engine.models.get(name)
        self.projects.set_model(project, name)
        LOG.info("model swapped", extra={"project": project, "model": name})
        return version_of(name)

    def refresh_predictions(self, project: str) -> None:
        """Let missing predictions of earlier batches be made, and old ones made anew.

        The missing are of batches that were under way when an earlier backend ended; the old ones
        are of earlier models, if another one is in use. It is done in the background, once for each
        model; to call it often is cheap.

        Parameters
        ----------
        project : str
            ``"ID.TIME"``.
        """
        self.parts().refresh(project)

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        document: dict[str, Any] = {
            "version": __version__,
            "up_seconds": round(time.time() - self._began),
            "model": version_of(self.settings.model),
            "label_studio": self.settings.url or "not set",
            "has_token": bool(self.settings.api_key.get_secret_value()),
        }
        if limits := what_is_missing(self.settings):
            document["limits"] = limits
        document |= self._parts.status() if self._parts is not None else {"loading": True}
        if self.cluster.is_wanted:
            document["cluster"] = self.cluster.status()
        document["projects"] = [
            {"project": one.key, "model_version": version_of(one.model), "hostname": one.hostname}
            for one in self.projects.all()
        ]
        document["problems"] = self.problems.documents()
        return document

    def metrics_text(self) -> bytes:
        """Return the numbers for Prometheus."""
        if self._parts is not None:
            self._parts.measure()
        return self.metrics.text()

    def parts(self) -> Parts:
        """Return what answers are made with, loading it where that has not been done."""
        with self._parts_lock:
            if self._parts is None:
                from sam_plugins.labelstudio_backend.parts import Parts

                self._parts = Parts(self)
            return self._parts

    def drain(self) -> None:
        """Let go batches and what is prepared, here and on the cluster; clicks go on.

        For a process that was told to end: requests under way are answered before it does, and a
        batch would take its minute. What is not done was not stored; the next backend takes it up.
        """
        if self._parts is not None:
            self._parts.drain()
        self.cluster.close()

    def close(self) -> None:
        """End the threads."""
        self._loader.join(timeout=_LOADING_SECONDS)
        if self._parts is not None:
            self._parts.close()
        self.cluster.close()

    def _load(self) -> None:
        """Load libraries and model in the background."""
        try:
            self.parts().engine.models.get(exact_name(self.settings.model))
            LOG.info("model loaded", extra={"model": self.settings.model})
        except (SamPluginsError, OSError, ImportError) as error:
            self.problems.add("model", str(error))
            LOG.error("the model cannot be loaded: %s", error)
