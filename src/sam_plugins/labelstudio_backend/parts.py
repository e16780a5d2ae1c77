"""Everything behind the service that needs the network's libraries, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sam_plugins.labelstudio_backend.batch import Batches
from sam_plugins.labelstudio_backend.click_threads import ClickThreads
from sam_plugins.labelstudio_backend.encoded import EncodedPictures
from sam_plugins.labelstudio_backend.engine import Engine
from sam_plugins.labelstudio_backend.images import PictureFiles
from sam_plugins.labelstudio_backend.interactive import Suggestion, suggest
from sam_plugins.labelstudio_backend.label_config import ConfigError
from sam_plugins.labelstudio_backend.lanes import Lane
from sam_plugins.labelstudio_backend.models import Pool
from sam_plugins.labelstudio_backend.payload import PredictRequest
from sam_plugins.labelstudio_backend.prewarm import Prewarmer
from sam_plugins.labelstudio_backend.projects import Project
from sam_plugins.labelstudio_backend.refresh import Refresher
from sam_plugins.labelstudio_backend.sessions import Sessions
from sam_plugins.model.inference.clip import load_clip
from sam_plugins.model.inference.loading import load_model

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.service import Service


class Parts:
    """The engine, and what answers with it.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        lane = Lane(ClickThreads() if _is_on_cpu(settings.device) else None)
        files = PictureFiles(settings, service.problems)
        self.engine = Engine(
            settings=settings,
            models=Pool(
                service.load_model or (lambda name: load_model(name, device=settings.device))
            ),
            clips=Pool(lambda name: load_clip(name, device=settings.device)),
            lane=lane,
            files=files,
            pictures=EncodedPictures(settings, files, lane, service.metrics),
            access=service.access,
            sessions=Sessions(),
            problems=service.problems,
            metrics=service.metrics,
        )
        self._batches = Batches(self.engine, service.cluster)
        self._prewarmer = Prewarmer(self.engine)
        self._refresher = Refresher(self.engine, service.projects, self._batches)

    def suggest(self, project: Project, request: PredictRequest) -> Suggestion:
        """Answer what somebody drew."""
        return suggest(self.engine, project, request)

    def predict(self, project: Project, request: PredictRequest) -> list[Any]:
        """Answer a batch; a single task is one that somebody opens, and will not be the last."""
        answers = self._batches.predict(project, request)
        if len(request.tasks) == 1:
            try:
                config = self.engine.config(project, request)
            except ConfigError:
                return answers
            self._prewarmer.after(project, request.tasks[0], config)
        return answers

    def refresh(self, project: str) -> None:
        """Go on with what an earlier backend left, and make predictions of earlier models anew."""
        self._refresher.look(project)

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        engine = self.engine
        return {
            "models_loaded": engine.models.loaded(),
            "jobs_waiting": engine.lane.waiting,
            "embeddings_in_memory": len(engine.pictures),
            "embedding_bytes": engine.pictures.memory_bytes,
            "batches": self._batches.documents(),
        }

    def measure(self) -> None:
        """Bring the numbers for Prometheus up to date."""
        self.engine.metrics.waiting.set(self.engine.lane.waiting)
        self.engine.metrics.cache_bytes.set(self.engine.pictures.memory_bytes)

    def drain(self) -> None:
        """Let go what nobody waits for; clicks go on."""
        self._prewarmer.close()
        self._refresher.close()
        self._batches.close()

    def close(self) -> None:
        """End the threads."""
        self.drain()
        self.engine.lane.close()


def _is_on_cpu(device: str | None) -> bool:
    """Return whether models run on the CPU; a device that is missing is reported by its user."""
    return not torch.cuda.is_available() if device is None else device.startswith("cpu")
