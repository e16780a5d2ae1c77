"""Pictures as the model knows them: fetched and encoded once, however many ask."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from sam_plugins.labelstudio_backend.images import (
    PictureFile,
    PictureFiles,
    Source,
    decode_rgb,
    is_fresh,
)
from sam_plugins.labelstudio_backend.lanes import Job, Lane, Priority
from sam_plugins.labelstudio_backend.metrics import Metrics
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.types import ImageEmbedding

_MIB = 2**20
Key = tuple[str, str]


@dataclass
class _Known:
    """An embedding in memory, and when its picture was last said to be the same."""

    embedding: ImageEmbedding
    digest: str
    checked_at: float


@dataclass
class _Flight:
    """One picture on its way, which others may wait for."""

    priority: Priority
    future: Future[ImageEmbedding] = field(default_factory=Future)
    job: Job[ImageEmbedding] | None = None


class EncodedPictures:
    """Embeddings by picture and model, in memory and on the disk; safe with threads.

    Parameters
    ----------
    settings : Settings
    files : PictureFiles
    lane : Lane
        Where pictures are encoded.
    metrics : Metrics
    """

    def __init__(
        self, settings: Settings, files: PictureFiles, lane: Lane, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._files = files
        self._lane = lane
        self._metrics = metrics
        # Memory holds embeddings ready to be asked; the disk those that were dropped from there.
        self._disk = open_disk(settings)
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._bytes = 0
        self._flights: dict[Key, _Flight] = {}
        self._lock = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the embeddings in memory."""
        return self._bytes

    def __len__(self) -> int:
        """Return how many embeddings are in memory."""
        return len(self._known)

    def get(
        self, source: Source, model: Callable[[], Model], model_key: str, priority: Priority
    ) -> ImageEmbedding:
        """Return the embedding of a picture as it is now.

        Parameters
        ----------
        source : Source
        model : callable
            Returns the model; called only when something is to be encoded or read from the disk.
        model_key : str
            Tells models apart without loading them.
        priority : Priority
            Of who asks; a picture that is on its way already hurries for who is more urgent.

        Raises
        ------
        ImageError
            If the picture cannot be had.
        """
        key = (source.key, model_key)
        with self._lock:
            known = self._known.get(key)
            if known is not None and is_fresh(known.checked_at, self._settings):
                self._known.move_to_end(key)
                self._metrics.warm.inc()
                return known.embedding
            flight = self._flights.get(key)
            is_ours = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight(priority)
            elif priority < flight.priority:
                flight.priority = priority
                if flight.job is not None:
                    self._lane.hurry(flight.job, priority)
        if is_ours:
            self._fly(key, flight, source, model, known)
        return flight.future.result()

    def _fly(
        self,
        key: Key,
        flight: _Flight,
        source: Source,
        model: Callable[[], Model],
        known: _Known | None,
    ) -> None:
        """Fetch and encode a picture for all who wait."""
        try:
            file = self._files.get(source)
            if known is not None and known.digest == file.digest:
                known.checked_at = file.checked_at
                embedding = known.embedding
            else:
                embedding = self._encoded(file, flight, model())
                self._keep(key, _Known(embedding, file.digest, file.checked_at))
        except BaseException as error:  # noqa: BLE001  # it belongs to all who wait
            self._land(key)
            flight.future.set_exception(error)
        else:
            self._land(key)
            flight.future.set_result(embedding)

    def _land(self, key: Key) -> None:
        """Let the next one fly."""
        with self._lock:
            self._flights.pop(key, None)

    def _encoded(self, file: PictureFile, flight: _Flight, model: Model) -> ImageEmbedding:
        """Return the embedding of a file from the disk, or encode it in the lane."""

        def compute() -> ImageEmbedding:
            rgb = decode_rgb(file.content, self._settings)

            def encode() -> ImageEmbedding:
                self._metrics.encodes.inc()
                return encode_rgb(model, rgb)

            with self._lock:
                flight.job = self._lane.submit(encode, flight.priority)
            return flight.job.future.result()

        name = name_on_disk(file, model)
        return self._disk.get_or_compute(name, compute, device=model.device)

    def _keep(self, key: Key, known: _Known) -> None:
        """Keep an embedding in memory, and drop those that were not used for longest."""
        limit = self._settings.memory_mib * _MIB
        if known.embedding.nbytes > limit:
            return
        if known.checked_at == 0:
            known.checked_at = time.time()
        with self._lock:
            older = self._known.pop(key, None)
            self._bytes += known.embedding.nbytes - (older.embedding.nbytes if older else 0)
            self._known[key] = known
            while self._bytes > limit:
                _, dropped = self._known.popitem(last=False)
                self._bytes -= dropped.embedding.nbytes
        self._metrics.cache_bytes.set(self._bytes)


def open_disk(settings: Settings) -> EmbeddingCache:
    """Return the embeddings on the disk, which several processes may share."""
    return EmbeddingCache(
        settings.folder / "embeddings",
        max_memory_bytes=0,
        max_disk_bytes=settings.disk_mib * _MIB,
    )


def name_on_disk(file: PictureFile, model: Model) -> str:
    """Return the key of a file's embedding on the disk."""
    return hashlib.sha256(f"{file.digest}\0{model.model_id}".encode()).hexdigest()[:40]
