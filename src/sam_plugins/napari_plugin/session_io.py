"""Session files as napari reads and writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sam_plugins.napari_plugin.label_arrays import empty_labels
from sam_plugins.napari_plugin.layers import KEY
from sam_plugins.napari_plugin.session.files import (
    SUFFIX,
    SavedSession,
    load_session,
    save_session,
)
from sam_plugins.napari_plugin.session.planes import ArrayCanvas, LabelArray, Plane
from sam_plugins.napari_plugin.session.values import State

LayerData = tuple[Any, dict[str, Any], str]


def session_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return what reads a session file, None for other files."""
    first = path[0] if isinstance(path, list) else path
    return _read if str(first).endswith(SUFFIX) else None


def _read(path: str | list[str]) -> list[LayerData]:
    """Return the labels of sessions as layers; **Segment** goes on with them."""
    return [_layer(Path(entry)) for entry in (path if isinstance(path, list) else [path])]


def _layer(path: Path) -> LayerData:
    """Return the labels of one session."""
    saved = load_session(path)
    labels = empty_labels(saved.shape, saved.dtype)
    saved.write_labels(ArrayCanvas(labels))
    keywords = {
        "name": path.stem if saved.image is None else f"{saved.image.name} objects",
        "metadata": {KEY: {"role": "objects", "session": str(path), **_image_note(saved)}},
        **({} if saved.image is None else saved.image.placement),
    }
    return labels, keywords, "labels"


def _image_note(saved: SavedSession) -> dict[str, Any]:
    """Return what a layer says of the image that its session was about."""
    image = saved.image
    if image is None:
        return {}
    return {"image": {"source": image.source, "fingerprint": image.fingerprint}}


def write_session(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:  # noqa: ANN401, ARG001
    """Write a labels layer as a session: prompts and masks where it has some, its labels always.

    Parameters
    ----------
    path : str
        Gets our suffix where it has none.
    data : array of integer
    attributes : dict
        Of the layer, as napari hands them to writers.

    Returns
    -------
    list of str
        What was written.
    """
    target = path if path.endswith(SUFFIX) else f"{path}{SUFFIX}"
    saved = _open_session(data)
    if saved is None:
        saved = SavedSession(State(), tuple(data.shape), str(data.dtype))
    saved = replace(saved, planes=_Planes(data, saved.planes))
    save_session(target, saved)
    return [target]


def _open_session(data: Any) -> SavedSession | None:  # noqa: ANN401
    """Return the session that is at work on some labels, if there is one."""
    from sam_plugins.napari_plugin.widgets.segment import open_segmenters

    for recovery, segmenter in open_segmenters():
        if segmenter.objects.data is data:
            return recovery.saved(segmenter)
    return None


class _Planes(Mapping[Plane, LabelArray]):
    """Planes of labels, each read when it is written: all at once may be more than memory holds.

    They are those along the last two axes that hold objects, and others that are asked for.
    """

    def __init__(self, data: Any, others: Mapping[Plane, LabelArray]) -> None:  # noqa: ANN401
        self._data = data
        axes = (data.ndim - 2, data.ndim - 1)
        known = (Plane(axes, tuple(map(int, at))) for at in np.ndindex(*data.shape[:-2]))
        self._known = {plane: None for plane in known if plane in others or self[plane].any()}
        self._known.update(dict.fromkeys(others))

    def __getitem__(self, plane: Plane) -> LabelArray:
        """Return a plane as it is now."""
        labels: LabelArray = plane.take(self._data)
        return labels

    def __iter__(self) -> Iterator[Plane]:
        """Iterate over the planes."""
        return iter(self._known)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._known)
