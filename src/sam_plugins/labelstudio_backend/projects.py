"""What is known of each project of Label Studio; survives a restart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from sam_plugins.errors import OutputError
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.models import exact_name, is_named
from sam_plugins.labelstudio_backend.settings import Settings, wrong_value
from sam_plugins.model.io.atomic import write_bytes

PROJECT_SETTINGS = (
    "model",
    "output",
    "polygon_tolerance",
    "min_area",
    "automatic",
    "refresh_predictions",
    "auto_label",
    "fuse_seconds",
    "refine",
    "prewarm_next",
    "open_seconds",
    "batch_seconds",
)
"""What ``extra_params`` of a project may set. A model by its name alone: whoever reaches the port
may send them, and by a path they would read any file."""

_MOST = 1000


@dataclass(frozen=True)
class Project:
    """A project as the backend knows it.

    Parameters
    ----------
    key : str
        ``"ID.TIME"`` as Label Studio sends it.
    settings : Settings
        Those of the backend with what ``extra_params`` set.
    model : str
        The model that answers.
    config : str
        The labelling config of the last setup.
    hostname : str
        Where Label Studio says that it is.
    token : str
        What it sent with the last setup; in memory only.
    complaint : str
        What was wrong with ``extra_params``.
    """

    key: str
    settings: Settings
    model: str
    config: str = ""
    hostname: str = ""
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    complaint: str = ""

    @property
    def id(self) -> str:
        """The number of the project in Label Studio's API."""
        return self.key.partition(".")[0]


class Projects:
    """All projects, each with its own settings and model.

    Parameters
    ----------
    settings : Settings
        Of the backend.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.folder / "projects"
        self._known: dict[str, Project] = {}
        self._promoted: dict[str, str] = {}
        self._extra: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Project:
        """Return a project, known or not."""
        with self._lock:
            return self._get(key)

    def all(self) -> list[Project]:
        """Return every project that was heard of since the start."""
        with self._lock:
            return list(self._known.values())

    def set_up(
        self,
        key: str,
        *,
        config: str,
        hostname: str,
        token: str,
        extra_params: Any,  # noqa: ANN401
    ) -> Project:
        """Take in what a setup says.

        Parameters
        ----------
        key, config, hostname, token : str
            As they came.
        extra_params : mapping or str
            Settings of the project, or a text with JSON.
        """
        with self._lock:
            before = self._get(key)
            extra = _mapping(extra_params)
            changed = extra != self._extra.get(key)
            self._extra[key] = extra
            project = replace(
                self._made(key),
                config=config or before.config,
                hostname=hostname or before.hostname,
                token=SecretStr(token) if token else before.token,
            )
            self._known[key] = project
            if changed or (project.hostname, project.config) != (before.hostname, before.config):
                self._save(project)
            return project

    def set_model(self, key: str, model: str) -> Project:
        """Let another model answer a project from now on."""
        with self._lock:
            before = self._get(key)
            self._promoted[key] = model
            project = replace(before, model=self._made(key).model)
            self._known[key] = project
            self._save(project)
            return project

    def _get(self, key: str) -> Project:
        """Return a project; the lock is held."""
        project = self._known.get(key)
        if project is None:
            stored = self._stored(key)
            self._promoted.update({key: stored["model"]} if stored.get("model") else {})
            self._extra[key] = stored.get("extra_params") or {}
            project = replace(
                self._made(key),
                config=stored.get("config", ""),
                hostname=stored.get("hostname", ""),
            )
            while len(self._known) >= _MOST:  # keys that somebody invents must not fill the memory
                gone = next(iter(self._known))
                for known in (self._known, self._promoted, self._extra):
                    known.pop(gone, None)
            self._known[key] = project
        return project

    def _made(self, key: str) -> Project:
        """Return a project with settings and model put together."""
        extra, complaint = self._extra.get(key) or {}, ""
        settings = self._settings
        chosen = {name: extra[name] for name in PROJECT_SETTINGS if name in extra}
        model = chosen.get("model")
        if isinstance(model, str) and not (is_named(model) or model == self._settings.model):
            del chosen["model"]
            complaint = (
                f"extra_params of project {key}: model must be the name of a published or a stored "
                "model, such as cells@3; files can be named in SAM_PLUGINS_LS_MODEL alone"
            )
        if chosen:
            try:
                settings = Settings(**{**self._settings.model_dump(), **chosen})
            except ValidationError as error:
                name, reason = wrong_value(error)
                complaint = (
                    f"extra_params of project {key}: {name} {reason}; the backend's own settings "
                    "are used until it is mended"
                )
        unknown = sorted(set(map(str, extra)) - set(PROJECT_SETTINGS))
        if unknown and not complaint:
            complaint = (
                f"extra_params of project {key}: unknown {', '.join(unknown[:5])}; there are "
                f"{', '.join(PROJECT_SETTINGS)}"
            )
        model = self._promoted.get(key) or self._settings.model
        if "model" in chosen and settings is not self._settings:
            model = settings.model  # pinned by hand: to roll back, or to try another
        return Project(key, settings, exact_name(model), complaint=complaint)

    def _path(self, key: str) -> Path:
        """Return the file of a project; the key may hold anything."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest[:24]}.json"

    def _stored(self, key: str) -> dict[str, Any]:
        """Return what an earlier run knew."""
        with contextlib.suppress(OSError, ValueError):
            stored = json.loads(self._path(key).read_text(encoding="utf-8"))
            if isinstance(stored, dict) and stored.get("project") == key:
                return stored
        return {}

    def _save(self, project: Project) -> None:
        """Write what the next run should know; no secrets."""
        document = {
            "project": project.key,
            "model": self._promoted.get(project.key, ""),
            "extra_params": self._extra.get(project.key) or {},
            "config": project.config,
            "hostname": project.hostname,
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path(project.key), json.dumps(document).encode())
        except (OSError, OutputError) as error:
            LOG.warning("a project is kept in memory only: %s", error)


def _mapping(extra_params: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Return settings that came as a mapping, as JSON in a text, or not at all."""
    if isinstance(extra_params, str) and extra_params.strip():
        with contextlib.suppress(ValueError, RecursionError):
            extra_params = json.loads(extra_params)
    if isinstance(extra_params, Mapping):
        return dict(extra_params)
    return {"extra_params that are no JSON object": None} if extra_params else {}
