"""A folder of pictures that are labelled one after the other: which is in which state; no Qt in it.

::

    FOLDER/picture.tif
    FOLDER/labels/picture_labels.tif    what was labelled
    FOLDER/labels/picture_labels.zarr   the same for stacks whose labels are too large for memory
    FOLDER/labels/states.json           which pictures people called done
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.napari_plugin.folder_pictures import (
    LayerPixels,
    Progress,
    read_layer,
    read_middle,
)
from sam_plugins.napari_plugin.label_arrays import create_labels, is_large, open_labels

if TYPE_CHECKING:
    from sam_plugins.model.engine.selection import Signals
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.inference.types import ImageEmbedding
    from sam_plugins.napari_plugin.jobs import JobProgress

_LABELS = "labels"
_STATES = "states.json"


class PictureState(StrEnum):
    """How far a picture is."""

    NEW = "new"
    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True)
class FolderSettings:
    """What people chose last in **Folder**."""

    folder: str = ""
    skips_done: bool = True


@dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture that was read, and what was labelled in it.

    Parameters
    ----------
    layer : LayerPixels
    labels : array, optional
        Of the shape that the labels of the layer have; None where there are none.
    """

    layer: LayerPixels
    labels: Any = None


class PictureFolder:
    """Pictures of a folder, in the order of their names.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DatasetError
        If there is no picture in it.
    """

    def __init__(self, folder: Path) -> None:
        from sam_plugins.model.io.images import IMAGE_SUFFIXES

        self.folder = folder
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise DatasetError(
                f"cannot read the folder {folder} ({error.strerror}); choose another one"
            ) from error
        self.paths = [
            path
            for path in entries
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
        if not self.paths:
            raise DatasetError(
                f"no picture in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}"
            )
        self._done = self._read_done()
        self._begun = {index for index in range(len(self.paths)) if self._has_labels(index)}

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def labels_path(self, index: int) -> Path:
        """Return where the labels of a picture are kept."""
        return self.folder / _LABELS / f"{self.paths[index].stem}_labels.tif"

    def large_labels_path(self, index: int) -> Path:
        """Return where the labels of a picture are kept that are too large for memory."""
        return self.labels_path(index).with_suffix(".zarr")

    def _has_labels(self, index: int) -> bool:
        """Return whether something was labelled in a picture."""
        large = self.large_labels_path(index)
        if large.exists():
            return bool(open_labels(large).nchunks_initialized)
        return self.labels_path(index).exists()

    def state(self, index: int) -> PictureState:
        """Return how far a picture is."""
        if self.paths[index].name in self._done:
            return PictureState.DONE
        return PictureState.BEGUN if index in self._begun else PictureState.NEW

    def set_done(self, index: int, is_done: bool) -> None:
        """Call a picture done, or not.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        from sam_plugins.model.io.atomic import make_folder, write_bytes

        name = self.paths[index].name
        self._done = self._done | {name} if is_done else self._done - {name}
        path = make_folder(self.folder / _LABELS) / _STATES
        write_bytes(path, json.dumps({"done": sorted(self._done)}, indent=1).encode())

    def _read_done(self) -> frozenset[str]:
        """Return the names of the pictures that are done."""
        try:
            document = json.loads((self.folder / _LABELS / _STATES).read_text(encoding="utf-8"))
            return frozenset(map(str, document["done"]))
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()

    def step(self, index: int, by: int, *, skips_done: bool) -> int | None:
        """Return the next picture in a direction, None at the end.

        Parameters
        ----------
        index : int
            Of the picture that is open; -1 before the first.
        by : {1, -1}
        skips_done : bool
        """
        index += by
        while 0 <= index < len(self.paths):
            if not (skips_done and self.state(index) == PictureState.DONE):
                return index
            index += by
        return None

    def load(
        self,
        index: int,
        progress: Progress = lambda done, total: None,  # noqa: ARG005
    ) -> LoadedPicture:
        """Read a picture, all planes of it, and its labels; from any thread.

        Raises
        ------
        UnreadableImageError, UnusableImageError, MemoryLimitError
            If one of them cannot be read.
        """
        layer = read_layer(self.paths[index], progress)
        shape = layer.source.shape
        large = self.large_labels_path(index)
        if is_large(shape) or large.exists():
            return LoadedPicture(layer, self._open_large(large, shape))
        return LoadedPicture(layer, self._read_labels(index, shape))

    def read_middle(self, index: int) -> npt.NDArray[np.uint8]:
        """Return what the model sees of the middle plane of a picture, (H, W, 3)."""
        return read_middle(self.paths[index]).middle_picture()

    def _read_labels(self, index: int, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """Return the labels of a picture, None where there are none."""
        import tifffile

        path = self.labels_path(index)
        if not path.exists():
            return None
        try:
            labels = tifffile.imread(path)
        except (OSError, ValueError) as error:
            raise UnreadableImageError(
                f"{path} cannot be read ({error}); move it away to begin anew"
            ) from error
        if labels.shape != shape:
            raise UnreadableImageError(
                f"{path} must have the shape of the picture's planes, {shape}, got "
                f"{labels.shape}; move it away to begin anew"
            )
        return labels.astype(np.uint32)

    def _open_large(self, path: Path, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
        """Return labels that are written to as people work."""
        from sam_plugins.model.io.atomic import make_folder

        if not path.exists():
            make_folder(path.parent)
            return create_labels(path, shape)
        labels = open_labels(path)
        if labels.shape != shape:
            raise UnreadableImageError(
                f"{path} must have the shape of the picture's planes, {shape}, got "
                f"{labels.shape}; move it away to begin anew"
            )
        return labels

    def write_labels(self, index: int, labels: npt.NDArray[np.integer[Any]]) -> None:
        """Keep the labels of a picture; the file is whole or the one before.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        from sam_plugins.model.io.atomic import make_folder
        from sam_plugins.model.io.labels import write_labels

        make_folder(self.folder / _LABELS)
        write_labels(self.labels_path(index), labels)
        self._begun.add(index)


def prefetch(
    pictures: PictureFolder,
    index: int,
    load: Any,  # noqa: ANN401
    cache: EmbeddingCache,
    *,
    progress: JobProgress,
) -> None:
    """Read and encode a picture before people come to it, and hand over what was read."""
    loaded = pictures.load(index, progress)
    progress.hand_over(loaded)
    _encode(load(), loaded.layer.middle_picture(), cache)


def _encode(model: Model, rgb: npt.NDArray[np.uint8], cache: EmbeddingCache) -> ImageEmbedding:
    """Return the embedding of a picture that the model is shown as it is."""
    from sam_plugins.model.inference.cache import embedding_key
    from sam_plugins.model.inference.predict import encode_rgb

    key = embedding_key(rgb, model.preprocessing, model.model_id)
    return cache.get_or_compute(key, lambda: encode_rgb(model, rgb), device=model.device)


def best_next(
    pictures: PictureFolder,
    known: dict[str, Signals],
    load: Any,  # noqa: ANN401
    cache: EmbeddingCache,
    *,
    progress: JobProgress,
) -> int | None:
    """Return the picture from which a model would learn most, None where all are labelled.

    Parameters
    ----------
    pictures : PictureFolder
    known : dict of str to Signals
        What the model said of pictures by their names; it grows.
    load : callable
        Returns the model.
    cache : EmbeddingCache
    progress : JobProgress
    """
    from sam_plugins.model.engine.selection import choose_next, measure_signals, shows_nothing

    model: Model = load()
    names = [path.name for path in pictures.paths]
    for index, name in enumerate(names):
        progress(index, len(names))
        key = f"{model.model_id}/{name}"
        if key not in known:
            rgb = pictures.read_middle(index)
            embedding = _encode(model, rgb, cache)
            known[key] = measure_signals(model, name, embedding, is_blank=shows_nothing(rgb))
    progress(len(names), len(names))
    new = [index for index in range(len(names)) if pictures.state(index) == PictureState.NEW]
    labelled = set(range(len(names))) - set(new)
    if not new:
        return None
    signals = _of(model, names, new, known)
    vectors = [one.vector for one in _of(model, names, sorted(labelled), known)]
    return names.index(choose_next(signals, vectors)[0].image_id)


def _of(
    model: Model, names: Sequence[str], indices: Sequence[int], known: dict[str, Signals]
) -> list[Signals]:
    """Return what a model said of some pictures."""
    return [known[f"{model.model_id}/{names[index]}"] for index in indices]
