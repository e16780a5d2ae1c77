"""The embedding of a picture of any size: windows of it, encoded when a prompt asks for them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.checks import require_type
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import resized_size_hw
from sam_plugins.model.inference.rgb import Limits
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.sources import ArraySource, FileSource, Source
from sam_plugins.model.large.zoom import View, Zoom
from sam_plugins.model.weights.paths import embeddings_directory

_MEMORY_BYTES = 256 * 2**20


class TiledEmbedding:
    """A picture of any size that prompts can be asked about; nothing is encoded yet.

    Any number of threads may ask.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`.
    image : path, source, LazyPicture, or array of shape (H, W), (H, W, C) or (C, H, W)
        A file; a :class:`~sam_plugins.model.large.sources.FileSource`, which names a plane,
        channels or a level of it; NumPy, Zarr, Dask, a memory map. A
        :class:`~sam_plugins.model.large.picture.LazyPicture` says which channels to show. Files
        are opened when something of them is read.
    tile : int, optional
        Length of the finest windows in pixels; by default the model's longest input.
    cache : EmbeddingCache, optional
        Where embeddings are kept; by default the folder that all front ends share.

    Raises
    ------
    TypeError
        If ``model`` is something else.
    UnreadableImageError
        If the file cannot be read.
    UnusableImageError
        If ``image`` is no picture.
    ValueError
        If ``tile`` is below 1.
    """

    def __init__(
        self,
        model: Model,
        image: str | os.PathLike[str] | Source | LazyPicture | npt.NDArray[Any] | SliceableArray,
        *,
        tile: int | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        require_type("model", model, Model, "load it with load_model, and pass it first")
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be 1 or more, got {tile}")
        self.model = model
        if isinstance(image, str | os.PathLike):
            image = FileSource(os.fspath(image))
        self._contrast: Limits | list[Limits] | None = None
        self._source = image if isinstance(image, FileSource | ArraySource) else None
        self._picture = None if self._source else _picture_of(image).with_contrast()
        with self._opened() as picture:
            self._contrast, size_hw = picture.contrast, picture.size_hw
        self.zoom = Zoom(size_hw, tile or model.preprocessing.max_long_side)
        self.cache = cache or EmbeddingCache(embeddings_directory(), max_memory_bytes=_MEMORY_BYTES)
        self._lock = threading.Lock()
        self._keys: dict[View, str] = {}
        self._encodes = 0

    @property
    def encodes(self) -> int:
        """How many windows have been encoded; those found in the cache do not count."""
        return self._encodes

    def embedding(self, view: View) -> ImageEmbedding:
        """Return the embedding of a window, encoding it where that was never done.

        Parameters
        ----------
        view : View
            Of ``zoom``.

        Returns
        -------
        ImageEmbedding
            Prompts and masks are in pixels of the picture, from the corner of the window.
        """
        with self._lock:
            key = self._keys.get(view)
        found = None if key is None else self.cache.get(key, device=self.model.device)
        if found is None:
            found = self._encoded(view)
        return replace(found, original_size_hw=view.size_hw)

    def _encoded(self, view: View) -> ImageEmbedding:
        """Read a window, and find or compute its embedding."""
        rgb = self._seen(view)
        key = embedding_key(rgb, self.model.preprocessing, self.model.model_id)

        def compute() -> ImageEmbedding:
            encoded = encode_rgb(self.model, rgb)
            with self._lock:
                self._encodes += 1
            return encoded

        found = self.cache.get_or_compute(key, compute, device=self.model.device)
        with self._lock:
            self._keys[view] = key
        return found

    def _seen(self, view: View) -> npt.NDArray[np.uint8]:
        """Return what the model sees of a window, at the size at which it sees it, or smaller."""
        size = resized_size_hw(view.size_hw, self.model.preprocessing)
        with self._opened() as picture:
            if max(size) >= max(view.size_hw):
                return picture.rgb(view.window)
            return picture.reduced(view.window, size)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[LazyPicture]:
        """Yield the picture; its contrast is estimated once."""
        if self._source is None:
            assert self._picture is not None
            yield self._picture
            return
        with self._source.open() as picture:
            limits = self._contrast
            yield picture if limits is None else replace(picture, limits=limits, sample=None)


def _picture_of(image: Any) -> LazyPicture:  # noqa: ANN401
    """Return an array as a picture; lists are arrays, too."""
    if isinstance(image, LazyPicture):
        return image
    return LazyPicture(image if hasattr(image, "shape") else np.asarray(image))
