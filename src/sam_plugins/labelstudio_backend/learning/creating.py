"""The learning of a backend, made from its settings and fed by its service.

It loads none of the large libraries, so that the first ``/health`` is answered without them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
from typing import TYPE_CHECKING

from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.access import Access
from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.cluster import Cluster
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning, SwapModel
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.learning.training import TrainingSettings
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.labelstudio_backend.projects import Projects
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.engine.tuning_options import FineTuningOptions

if TYPE_CHECKING:
    from flask import Flask

    from sam_plugins.labelstudio_backend.images import PictureFiles
    from sam_plugins.labelstudio_backend.learning.pictures import FetchPicture


def create_learning(
    settings: Settings,
    service: Service | None = None,
) -> BackendLearning:
    """Return what learns from annotations; it works once it is started.

    Parameters
    ----------
    settings : Settings
    service : Service, optional
        Fetches pictures and swaps models; a command has none.

    Raises
    ------
    LearningError
        If the state folder cannot be used.
    """
    asked = (Access(settings), Projects(settings))
    if service is not None:
        asked = (service.access, service.projects)
    return BackendLearning(
        learning_settings(settings),
        fetch=_fetcher(settings, *asked),
        swap_model=None if service is None else _swapper(service),
        refresh_predictions=None if service is None else service.refresh_predictions,
        cluster=Cluster(settings) if service is None else service.cluster,
        problems=None if service is None else service.problems,
    )


def learning_app(settings: Settings) -> Flask:
    """Return the application of a backend that learns, at work already.

    Where the state folder cannot be used, the backend answers clicks nevertheless, and says why it
    does not learn.
    """
    with contextlib.suppress(ImportError):  # create_app says how to get it
        # First: from here on the service loads large libraries, which takes the interpreter's time.
        import flask  # noqa: F401
    service = Service(settings)
    try:
        learning = create_learning(settings, service)
    except SamPluginsError as error:
        service.problems.add("learning", str(error))
        LOG.error("the backend does not learn: %s", error)
        return create_app(settings, service=service)
    learning.start()
    atexit.register(learning.close)
    app = create_app(settings, service=service, learning=learning)
    app.extensions["sam_plugins_learning"] = learning
    return app


def learning_settings(settings: Settings) -> LearningSettings:
    """Return what the settings of a backend say about learning."""
    return LearningSettings(
        folder=settings.folder / "learning",
        url=settings.url,
        token=settings.api_key.get_secret_value(),
        model=settings.model,
        held_out_share=settings.held_out,
        is_complete=settings.complete,
        train_every=settings.train_every,
        train_at=settings.train_at,
        reconcile_seconds=settings.reconcile_minutes * 60,
        training=TrainingSettings(
            options=FineTuningOptions(
                method=settings.train_method,
                steps=settings.train_steps,
                rounds=min(settings.train_rounds, settings.train_steps),
            ),
            device=settings.device,
            threads=settings.train_threads,
            niceness=settings.train_niceness,
        ),
    )


def _fetcher(settings: Settings, access: Access, projects: Projects) -> FetchPicture:
    """Return what fetches pictures as the service does, from the same cache."""

    @functools.cache
    def files() -> PictureFiles:
        from sam_plugins.labelstudio_backend.images import PictureFiles

        return PictureFiles(settings)

    def fetch(key: str, task: int, url: str) -> bytes:
        from sam_plugins.labelstudio_backend.images import Source

        client = access.client(projects.get(key))
        return files().get(Source(url, str(task), client)).content

    return fetch


def _swapper(service: Service) -> SwapModel:
    """Return what lets another model answer."""

    def swap(key: str, model: str) -> None:
        service.swap_model(key, model)

    return swap
