"""All objects of one picture as regions with a score: in the model's lane, or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.errors import ClusterError
from sam_plugins.labelstudio_backend.encoded import name_on_disk, open_disk
from sam_plugins.labelstudio_backend.images import PictureFiles, decode_rgb
from sam_plugins.labelstudio_backend.models import version_of
from sam_plugins.labelstudio_backend.results import Drawing, region_items
from sam_plugins.labelstudio_backend.scores import evidence_of, picture_score
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.target import Target
from sam_plugins.model.cluster.outcome import Kept
from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.segment_options import Mode
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.large.whole import encoding_once, may_look_again, segment_rgb

Predicted = tuple[list[dict[str, Any]], float]
"""Items of Label Studio, and how good they are expected to be, 0 to 1."""


def find_objects(
    model: Model,
    embedding: ImageEmbedding,
    rgb: npt.NDArray[np.uint8] | None = None,
    let_pass: Callable[[], None] = lambda: None,
) -> tuple[Segmentation, float]:
    """Return the objects of a picture, and how good they are expected to be.

    Parameters
    ----------
    model : Model
    embedding : ImageEmbedding
        Of the whole picture.
    rgb : ndarray of shape (H, W, 3), uint8, optional
        What the model sees of it, where it may be looked at in windows or from farther
        (:func:`~sam_plugins.model.large.whole.may_look_again`).
    let_pass : callable
        Called now and then, for others who wait for the model; not while a window is encoded.
    """
    mode: Mode = "auto" if model.has_instance_decoder else "grid"

    def progress(_done: int, _total: int) -> None:
        let_pass()

    if rgb is None:
        segmentation = segment_embedding(model, embedding, mode=mode, progress=progress)
    else:
        # Windows are asked for once: kept, they would drive out the pictures that people open.
        encode = encoding_once(rgb, partial(encode_rgb, model), embedding)
        segmentation = segment_rgb(
            model, rgb, mode=mode, encode=encode, progress=progress, stacklevel=None
        )
    if not model.has_instance_decoder:
        scores = segmentation.scores
        return segmentation, float(np.mean(scores)) if len(segmentation) else 0.0
    let_pass()
    maps = instance_maps(model, embedding)
    evidence = evidence_of(segmentation.scores, segmentation.labels, maps.foreground)
    return segmentation, picture_score(evidence)


def draw_objects(segmentation: Segmentation, target: Target, drawing: Drawing) -> list[Any]:
    """Return objects as items of the control that holds them."""
    items: list[dict[str, Any]] = []
    windows = ndimage.find_objects(segmentation.labels, len(segmentation.scores))
    for index, (score, window) in enumerate(zip(segmentation.scores, windows, strict=False)):
        if window is None:
            continue
        mask = np.zeros(segmentation.labels.shape, bool)
        mask[window] = segmentation.labels[window] == index + 1
        items += region_items(mask, target, score=float(score), drawing=drawing)
    return items


@dataclass(frozen=True)
class PictureOrder:
    """A picture that a worker of a cluster is to predict; goes there as it is.

    Parameters
    ----------
    settings : Settings
        Without secrets. Its folder is one that the worker sees.
    model : str
        Name or absolute file.
    version : str
        What :func:`~.models.version_of` says of it here.
    key : str
        Of the picture among those on the disk.
    target : Target, optional
        Where regions go; without it the picture is only encoded.
    drawing : Drawing
    content : bytes, optional
        The picture's file, where it is not on the disk.
    niceness : int
        Added to that of the worker, where that shares the machine with the backend.
    """

    settings: Settings
    model: str
    version: str
    key: str
    target: Target | None
    drawing: Drawing
    content: bytes | None = field(default=None, repr=False)
    niceness: int = 0


def predict_there(kept: Kept, order: PictureOrder) -> Predicted:
    """Predict a picture in a worker; the embedding goes to the folder that all share.

    Raises
    ------
    ImageError
        If the picture cannot be read.
    ClusterError
        If the worker sees another model, or not the picture.
    """
    kept.get("niceness", lambda: _step_back(order.niceness))
    settings = order.settings
    model = kept.get(("model", order.model, order.version, settings.device), lambda: _loaded(order))
    file = PictureFiles(settings).kept(order.key)
    content = order.content if file is None else file.content
    if content is None:
        raise ClusterError(
            "a picture was dropped from the disk before a worker came to it; allow more "
            "(SAM_PLUGINS_LS_IMAGES_MIB)"
        )

    pixels = cache(partial(decode_rgb, content, settings))

    def encode() -> ImageEmbedding:
        return encode_rgb(model, pixels())

    if file is None:
        embedding = encode()
    else:
        disk = kept.get(("disk", str(settings.folder)), lambda: open_disk(settings))
        embedding = disk.get_or_compute(name_on_disk(file, model), encode, device=model.device)
    if order.target is None:
        return [], 0.0
    rgb = pixels() if may_look_again(model, embedding) else None
    segmentation, sure = find_objects(model, embedding, rgb)
    return draw_objects(segmentation, order.target, order.drawing), sure


def _loaded(order: PictureOrder) -> Model:
    """Load the model of an order, if it is the same here."""
    found = version_of(order.model)
    if found != order.version:
        raise ClusterError(
            f"a worker sees another model as {order.model} ({found}, not {order.version}); give "
            "it the same files and version of sam-plugins"
        )
    return load_model(order.model, device=order.settings.device)


def _step_back(niceness: int) -> int:
    """Leave the machine to those who click."""
    return os.nice(niceness) if hasattr(os, "nice") else 0
