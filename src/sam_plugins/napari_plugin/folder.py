"""A folder of pictures that are labelled one after the other: which is in which state; no Qt in it.

::

    FOLDER/picture.tif
    FOLDER/labels/picture_labels.tif    what was labelled
    FOLDER/labels/states.json           which pictures people called done
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import DatasetError

if TYPE_CHECKING:
    from sam_plugins.model.engine.selection import Signals
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.napari_plugin.jobs import JobProgress

_LABELS = "labels"
_STATES = "states.json"


class PictureState(StrEnum):
    """How far a picture is."""

    NEW = "new"
    BEGUN = "begun"
    DONE = "done"


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
        self.paths = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES]
        if not self.paths:
            raise DatasetError(
                f"no picture in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}"
            )
        self._done = self._read_done()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.paths)

    def labels_path(self, index: int) -> Path:
        """Return where the labels of a picture are kept."""
        return self.folder / _LABELS / f"{self.paths[index].stem}_labels.tif"

    def state(self, index: int) -> PictureState:
        """Return how far a picture is."""
        if self.paths[index].name in self._done:
            return PictureState.DONE
        return PictureState.BEGUN if self.labels_path(index).exists() else PictureState.NEW

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

    def read(self, index: int) -> npt.NDArray[Any]:
        """Read a picture.

        Raises
        ------
        UnreadableImageError
            If it cannot be.
        """
        from sam_plugins.model.io.images import read_image

        return read_image(self.paths[index])

    def read_labels(self, index: int) -> npt.NDArray[Any] | None:
        """Read the labels of a picture, None where there are none."""
        import tifffile

        path = self.labels_path(index)
        return tifffile.imread(path) if path.exists() else None

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


def prefetch(
    pictures: PictureFolder,
    index: int,
    load: Any,  # noqa: ANN401
    cache: EmbeddingCache,
    *,
    progress: JobProgress,
) -> None:
    """Encode a picture before people come to it."""
    from sam_plugins.model.engine.project.encoding import encode_cached

    progress(0, 1)
    model: Model = load()
    encode_cached(model, pictures.read(index), cache)
    progress(1, 1)


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
    from sam_plugins.model.engine.project.encoding import encode_cached
    from sam_plugins.model.engine.selection import choose_next, measure_signals

    model: Model = load()
    names = [path.name for path in pictures.paths]
    for index, name in enumerate(names):
        progress(index, len(names))
        key = f"{model.model_id}/{name}"
        if key not in known:
            embedding = encode_cached(model, pictures.read(index), cache)
            known[key] = measure_signals(model, name, embedding)
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
