"""One prompt per object: the centre point, and the tight box.

The protocol, after SAM (Kirillov et al. 2023, section 7.1), by which our figures are measured:

- Every annotated object is asked for once with its centre point, three masks wanted, and once with
  its tight box, one mask wanted (:mod:`~sam_plugins.model.evaluation.prompts`).
- *Best of three* is the IoU of the best of the three masks (an oracle chooses; a point may mean a
  part or the whole). *Most confident* is the IoU of the mask with the highest predicted IoU, which
  is what a user gets. *Box* is the IoU of the one mask.
- Masks are compared at the size of the picture, without ignored pixels. Where a set gives the whole
  mask of a covered object, that is the object.
- A set's figure is the mean over its objects. A mean over sets gives each set the same weight.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.model.evaluation.object_ious import measure_ious
from sam_plugins.model.evaluation.prompts import TrueObject, true_objects
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.io.labelled import LabelledImage

DEFAULT_CHUNK_SIZE = 32
"""Prompts that a model is asked with in one call: more gains no speed on two cores, only memory.

The model may decode fewer at once; a loaded one takes 4 on a CPU.
"""


class SizedEmbedding(Protocol):
    """What an image's embedding tells about sizes, each (height, width)."""

    @property
    def original_size_hw(self) -> tuple[int, int]:
        """Size of the picture."""
        ...

    @property
    def input_size_hw(self) -> tuple[int, int]:
        """Size of the network's input without its padding."""
        ...

    @property
    def padded_size_hw(self) -> tuple[int, int]:
        """Size of the network's input."""
        ...


Embedding = TypeVar("Embedding", bound=SizedEmbedding)


class LowResMasks(NamedTuple):
    """What a mask decoder answers.

    Attributes
    ----------
    logits : Tensor of shape (N, C, h, w), float
        Low-resolution mask logits of N prompts; positive inside.
    iou_predictions : Tensor of shape (N, C), float
        The model's own estimate of each mask's IoU.
    """

    logits: torch.Tensor
    iou_predictions: torch.Tensor


class PromptableModel(Protocol[Embedding]):
    """What can be asked: a loaded model behind a thin adapter, or one in training."""

    def encode(self, image: NDArray[Any]) -> Embedding:
        """Return the embedding of a picture as it comes from a file."""
        ...

    def predict_points(self, embedding: Embedding, points_xy: NDArray[np.float32]) -> LowResMasks:
        """Return three masks for each of N single positive points, shape (N, 2), picture pixels."""
        ...

    def predict_boxes(self, embedding: Embedding, boxes_xyxy: NDArray[np.float32]) -> LowResMasks:
        """Return one mask for each of N boxes, shape (N, 4), picture pixels."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """How one object was found.

    Attributes
    ----------
    set_name, image_id : str
        The picture.
    object_id : int
        Label of the object.
    area : int
        Pixels of the object.
    point_x, point_y : int
        The point that was asked with.
    point_best_iou, point_confident_iou : float
        IoU of the best of three masks, and of the one that the model trusts most.
    point_predicted_iou : float
        The model's estimate for the latter.
    box_iou, box_predicted_iou : float
        IoU of the mask for the box, and the model's estimate.
    """

    set_name: str
    image_id: str
    object_id: int
    area: int
    point_x: int
    point_y: int
    point_best_iou: float
    point_confident_iou: float
    point_predicted_iou: float
    box_iou: float
    box_predicted_iou: float

    @property
    def point_calibration_error(self) -> float:
        """Absolute difference between the model's estimate and the IoU of the mask it trusts."""
        return abs(self.point_predicted_iou - self.point_confident_iou)


def evaluate_prompts(
    model: PromptableModel[Embedding],
    images: Iterable[LabelledImage],
    *,
    max_objects: int | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    mask_threshold: float = 0.0,
    seed: int = 0,
) -> Iterator[ObjectScore]:
    """Ask for every object of every picture with a point and with a box.

    Parameters
    ----------
    model : PromptableModel
        What is asked.
    images : iterable of LabelledImage
        Read one at a time; each is encoded once.
    max_objects : int, optional
        At most so many objects of a picture, drawn at random by ``seed`` and the picture's name:
        the same ones whatever other pictures there are. All by default.
    chunk_size : int
        Prompts per call of the model, 1 or more.
    mask_threshold : float
        Logits above it are inside the mask.
    seed : int
        Of the draw.

    Yields
    ------
    ObjectScore
        Picture by picture, objects by ascending label; objects wholly within the ignored region
        are left out.

    Raises
    ------
    ValueError
        If ``max_objects`` or ``chunk_size`` is below 1, or the model's answer has the wrong shape.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, got {chunk_size}")
    check_max_objects(max_objects)
    for image in images:
        objects = chosen_objects(image, max_objects, seed)
        if not objects:
            continue
        # A list: a generator that stopped within inference_mode would leave its caller in it.
        yield from _score_picture(model, image, objects, chunk_size, mask_threshold)


@torch.inference_mode()
def _score_picture(
    model: PromptableModel[Embedding],
    image: LabelledImage,
    objects: list[TrueObject],
    chunk_size: int,
    mask_threshold: float,
) -> list[ObjectScore]:
    """Encode one picture and ask for its objects, some at a time."""
    embedding = model.encode(image.image)
    scores: list[ObjectScore] = []
    for start in range(0, len(objects), chunk_size):
        chunk = objects[start : start + chunk_size]
        scores.extend(_score_chunk(model, embedding, image, chunk, mask_threshold))
    return scores


def check_max_objects(max_objects: int | None) -> None:
    """Refuse a number of objects that is none."""
    if max_objects is not None and max_objects < 1:
        raise ValueError(f"max_objects must be 1 or more, or None for all, got {max_objects}")


def chosen_objects(image: LabelledImage, max_objects: int | None, seed: int) -> list[TrueObject]:
    """Return the objects of a picture to ask for."""
    objects = list(true_objects(image.labels, image.whole_masks))
    if image.ignore is not None:
        counted = ~image.ignore
        objects = [one for one in objects if (one.mask & counted[one.window]).any()]
    if max_objects is None or len(objects) <= max_objects:
        return objects
    name = zlib.crc32(f"{image.set_name}/{image.id}".encode())
    chosen = np.random.default_rng([seed, name]).choice(len(objects), max_objects, replace=False)
    return [objects[index] for index in sorted(chosen)]


def _score_chunk(
    model: PromptableModel[Embedding],
    embedding: Embedding,
    image: LabelledImage,
    objects: list[TrueObject],
    mask_threshold: float,
) -> Iterator[ObjectScore]:
    """Ask for some objects of one picture and compare the answers."""
    points = np.array([one.point_xy for one in objects], dtype=np.float32)
    boxes = np.array([one.box_xyxy for one in objects], dtype=np.float32)
    counted = None if image.ignore is None else ~image.ignore
    by_point, point_guess = _compare(
        model.predict_points(embedding, points), embedding, objects, counted, mask_threshold
    )
    by_box, box_guess = _compare(
        model.predict_boxes(embedding, boxes), embedding, objects, counted, mask_threshold
    )
    trusted = point_guess.argmax(axis=1)
    for index, one in enumerate(objects):
        yield ObjectScore(
            set_name=image.set_name,
            image_id=image.id,
            object_id=one.object_id,
            area=one.area,
            point_x=one.point_xy[0],
            point_y=one.point_xy[1],
            point_best_iou=float(by_point[index].max()),
            point_confident_iou=float(by_point[index, trusted[index]]),
            point_predicted_iou=float(point_guess[index, trusted[index]]),
            box_iou=float(by_box[index, 0]),
            box_predicted_iou=float(box_guess[index, 0]),
        )


def _compare(
    answer: LowResMasks,
    embedding: SizedEmbedding,
    objects: list[TrueObject],
    counted: NDArray[np.bool_] | None,
    mask_threshold: float,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the true and the predicted IoU of each mask, both of shape (N, C)."""
    logits = answer.logits.detach().float().cpu().numpy()
    guesses = answer.iou_predictions.detach().float().cpu().numpy()
    if logits.ndim != 4 or guesses.shape != logits.shape[:2] or len(objects) != logits.shape[0]:
        raise ValueError(
            f"expected logits (N, C, h, w) and predicted IoU (N, C) for {len(objects)} prompts, "
            f"got {tuple(logits.shape)} and {tuple(guesses.shape)}; check the model's adapter"
        )
    sizes = SizeChain(
        (logits.shape[2], logits.shape[3]),
        embedding.padded_size_hw,
        embedding.input_size_hw,
        embedding.original_size_hw,
    )
    ious = measure_ious(logits, objects, sizes, threshold=mask_threshold, counted=counted)
    return ious, guesses
