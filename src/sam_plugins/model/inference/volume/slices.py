"""The embeddings of a volume's slices: one when it is asked for, the rest from where you are."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.candidates import Progress
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.inference.volume.stack import AXES, Volume, check_axis
from sam_plugins.model.weights.paths import embeddings_directory

_MEMORY_BYTES = 256 * 2**20


def nearest_first(start: int, indices: Iterable[int]) -> Iterator[int]:
    """Yield slices by their distance from one of them, the later of two equal ones first.

    Examples
    --------
    >>> list(nearest_first(2, range(5)))
    [2, 3, 1, 4, 0]
    """
    yield from sorted(indices, key=lambda index: (abs(index - start), -index))


class SliceEmbeddings:
    """What the model needs of each slice along one axis, computed once and kept on disk.

    Any number of threads may ask: for one slice, or to fill the rest while others ask.

    Parameters
    ----------
    model : Model
    volume : Volume
    axis : int
        0, 1 or 2: slices along z, y or x.
    cache : EmbeddingCache, optional
        Where embeddings are kept; by default the folder that all front ends share, so that nobody
        has to name a path and work goes on after a crash.

    Raises
    ------
    TypeError
        If ``model`` or ``volume`` is something else.
    ValueError
        If there is no such axis.
    """

    def __init__(
        self,
        model: Model,
        volume: Volume,
        *,
        axis: int = 0,
        cache: EmbeddingCache | None = None,
    ) -> None:
        require_type("model", model, Model, "load it with load_model, and pass it first")
        require_type("volume", volume, Volume, "make it with Volume(array)")
        self.model = model
        self.volume = volume
        self.axis = check_axis(axis)
        self.cache = cache or EmbeddingCache(embeddings_directory(), max_memory_bytes=_MEMORY_BYTES)
        self._lock = threading.Lock()
        self._keys: dict[int, str] = {}
        self._encodes = 0
        self._focus = 0

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.volume.shape_zyx[self.axis]

    @property
    def encodes(self) -> int:
        """How many slices, and parts of them, were encoded; what was cached does not count."""
        return self._encodes

    def embedding(self, index: int) -> ImageEmbedding:
        """Return the embedding of one slice, encoding it where that was never done.

        Parameters
        ----------
        index : int
            From 0.

        Returns
        -------
        ImageEmbedding
            Prompts and masks are in pixels of the slice, ``volume.plane_hw(axis)``, whatever the
            size at which the model saw it.

        Raises
        ------
        IndexError
            If there is no such slice.
        MemoryLimitError
            If memory runs out.
        """
        rgb = self.volume.rgb(self.axis, index)
        key = self._key(rgb)
        found = self._encoded(key, rgb)
        with self._lock:
            self._keys[index] = key
        return replace(found, original_size_hw=self.volume.plane_hw(self.axis))

    def encoded(self, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        """Return the embedding of a part of a slice, encoding it where that was never done.

        Parameters
        ----------
        rgb : ndarray of shape (h, w, 3), uint8
            Cut from what :meth:`~.stack.Volume.rgb` returns.

        Raises
        ------
        MemoryLimitError
            If memory runs out.
        """
        return self._encoded(self._key(rgb), rgb)

    def _key(self, rgb: npt.NDArray[np.uint8]) -> str:
        """Return the name in the cache of what the model sees."""
        return embedding_key(rgb, self.model.preprocessing, self.model.model_id)

    def _encoded(self, key: str, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        """Return what is cached, or encode and count."""

        def compute() -> ImageEmbedding:
            encoded = encode_rgb(self.model, rgb)
            with self._lock:
                self._encodes += 1
            return encoded

        return self.cache.get_or_compute(key, compute, device=self.model.device)

    def is_ready(self, index: int) -> bool:
        """Return whether a slice needs no encoding; reads the slice, but no embedding.

        Raises
        ------
        IndexError
            If there is no such slice.
        """
        with self._lock:
            key = self._keys.get(index)
        if key is None:
            key = self._key(self.volume.rgb(self.axis, index))
            with self._lock:
                self._keys[index] = key
        return self.cache.holds(key)

    def look_at(self, index: int) -> None:
        """Say where the user is: a running :meth:`fill` goes on from there.

        Raises
        ------
        IndexError
            If there is no such slice.
        """
        if not 0 <= index < len(self):
            along = AXES[self.axis]
            raise IndexError(f"slice must be 0 to {len(self) - 1} along {along}, got {index}")
        self._focus = index

    def fill(
        self,
        start: int | None = None,
        *,
        indices: Iterable[int] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Encode what is not yet encoded, the nearest slice to where the user is first.

        Parameters
        ----------
        start : int, optional
            Where to begin; by default where :meth:`look_at` said last, or at the first slice.
        indices : iterable of int, optional
            The slices to encode; all by default.
        progress : callable, optional
            Called before each slice and at the end, with the slices done and the slices in all.
            An exception that it raises stops the work; what is done stays done.

        Returns
        -------
        int
            How many slices had to be encoded.

        Raises
        ------
        IndexError
            If there is no such slice.
        MemoryLimitError
            If memory runs out.
        """
        if start is not None:
            self.look_at(start)
        waiting = set(range(len(self)) if indices is None else indices)
        total, before = len(waiting), self._encodes
        while waiting:
            if progress is not None:
                progress(total - len(waiting), total)
            index = next(nearest_first(self._focus, waiting))
            waiting.discard(index)
            if not self.is_ready(index):
                self.embedding(index)
        if progress is not None:
            progress(total, total)
        return self._encodes - before
