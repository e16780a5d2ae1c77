"""The learning of a backend, made from its settings and fed by its service."""

from __future__ import annotations

from sam_plugins.labelstudio_backend.images import PictureFiles, Source
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning, SwapModel
from sam_plugins.labelstudio_backend.learning.pictures import FetchPicture
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.labelstudio_backend.learning.training import TrainingSettings
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.engine.tuning_options import FineTuningOptions


def create_learning(settings: Settings, service: Service | None = None) -> BackendLearning:
    """Return what learns from annotations; it works once it is started.

    Parameters
    ----------
    settings : Settings
    service : Service, optional
        Fetches pictures and swaps models; without one, as in a command, neither is done.

    Raises
    ------
    LearningError
        If the state folder cannot be used.
    """
    return BackendLearning(
        learning_settings(settings),
        fetch=_nothing if service is None else _fetcher(settings, service),
        swap_model=None if service is None else _swapper(service),
    )


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
        ),
    )


def _fetcher(settings: Settings, service: Service) -> FetchPicture:
    """Return what fetches pictures as the service does, from the same cache."""
    files = PictureFiles(settings)

    def fetch(key: str, task: int, url: str) -> bytes:
        client = service.access.client(service.projects.get(key))
        return files.get(Source(url, str(task), client)).content

    return fetch


def _swapper(service: Service) -> SwapModel:
    """Return what lets another model answer."""

    def swap(key: str, model: str) -> None:
        service.swap_model(key, model)

    return swap


def _nothing(_key: str, _task: int, _url: str) -> bytes:
    """Fetch no picture."""
    raise AssertionError("only a backend at work fetches pictures")
