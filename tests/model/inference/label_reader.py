"""A network whose answers are known, pictures for it, and what holds of every segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.evaluation.metrics import match_objects
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.instance_decoder import InstanceMaps
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.targets import instance_targets

Labels = npt.NDArray[np.uint8]
Answers = list[tuple[npt.NDArray[np.bool_], float]]

AS_IT_IS = (0, 255)


def usual_answers(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return a part, the object itself, and the object with too much around it."""
    left = mask & (np.arange(mask.shape[1]) < np.nonzero(mask)[1].mean())
    return [(left, 0.6), (mask, 0.95), (ndimage.binary_dilation(mask, iterations=6), 0.7)]


def signed_distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the distance to the border, negative outside."""
    if not mask.any():
        return np.full(mask.shape, -9.0)
    padded = np.pad(mask, 1)  # a mask may fill the picture
    distance = ndimage.distance_transform_edt(padded) - ndimage.distance_transform_edt(~padded)
    return (distance - 0.5 * np.sign(distance))[1:-1, 1:-1]


class LabelReader(nn.Module):
    """Stands where the network is: the grey value of a pixel is the number of its object.

    Maps and masks are those that training aims at, computed from the numbers.
    """

    def __init__(
        self,
        answers: Callable[[npt.NDArray[np.bool_]], Answers] = usual_answers,
        read: Callable[[Labels], Labels] = lambda grey: grey,
        **preprocessing: float,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.instance_decoder: object | None = "here"
        self.answers, self.read = answers, read
        numbers: dict[str, float] = {
            "min_long_side": 1, "max_long_side": 1024, "pad_to": 32, **preprocessing
        }  # fmt: skip
        self.config = SamConfig(
            preprocessing=Preprocessing((0, 0, 0), (1, 1, 1), **numbers)  # type: ignore[arg-type]
        )
        self.prompts_answered = 0
        self.boxes: list[Tensor] = []
        self._answered: dict[int, tuple[Tensor, Tensor]] = {}

    def encode(self, images: Tensor) -> ImageFeatures:
        """Keep the numbers."""
        self._answered.clear()
        grey = self.read(images[0, 0].numpy().round().astype(np.uint8))
        return ImageFeatures(images[:, :1, ::16, ::16], (torch.from_numpy(grey)[None, None],))

    def instances(self, features: ImageFeatures) -> InstanceMaps:
        """Return the maps of the numbers."""
        labels = features.skips[0][0, 0].numpy().astype(np.int64)
        targets = instance_targets(labels, np.ones(labels.shape, bool), complete=True)[:3]
        logits = torch.logit(torch.from_numpy(targets).float(), eps=1e-3)
        return InstanceMaps(*logits[:, None, None])

    def prepare(self, features: ImageFeatures) -> PreparedImage:
        """Add nothing."""
        return PreparedImage(features, features.embedding)

    def decode(
        self,
        image: PreparedImage,
        *,
        points_xy: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        which: slice,
        **_: object,
    ) -> MaskOutput:
        """Return what is asked for."""
        if boxes_xyxy is not None:
            assert points_xy is None
            self.boxes += list(boxes_xyxy)
            places_xy = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        else:
            assert points_xy is not None
            places_xy = points_xy[:, 0]
        self.prompts_answered += len(places_xy)
        labels = image.features.skips[0][0, 0].numpy()
        numbers = [int(labels[y, x]) for x, y in places_xy.round().int().tolist()]
        logits = torch.stack([self._answer(labels, number)[0] for number in numbers])
        predicted = torch.stack([self._answer(labels, number)[1] for number in numbers])
        # The single mask, for clear prompts, is the one that is trusted most.
        each, best = torch.arange(len(logits)), predicted.argmax(dim=1)
        single = logits[each, best][:, None], predicted[each, best][:, None]
        logits = torch.cat([single[0], logits], 1)[:, which]
        return MaskOutput(logits, torch.cat([single[1], predicted], 1)[:, which])

    def _answer(self, labels: Labels, number: int) -> tuple[Tensor, Tensor]:
        """Return logits and scores of three masks, computed once for each picture."""
        if number not in self._answered:
            answers = self.answers(labels == number)
            distances = torch.from_numpy(np.stack([signed_distance(mask) for mask, _ in answers]))
            # Steep, and a cell that is cut in halves is inside for certain: all masks are stable.
            logits = 100 * functional.avg_pool2d(distances.float() + 0.02, 4)
            scores = [score - number / 1e4 if number else 0.1 for _, score in answers]
            self._answered[number] = logits, torch.tensor(scores)
        return self._answered[number]


def model_of(network: nn.Module, name: str = "label-reader") -> Model:
    """Return a model of a stand-in."""
    return Model(cast("Sam", network), name)


def discs(size_hw: tuple[int, int], discs_xyr: Sequence[tuple[int, int, int]]) -> Labels:
    """Draw discs with the grey values 1, 2, ..., later ones on top."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    labels = np.zeros(size_hw, np.uint8)
    for label, (x, y, radius) in enumerate(discs_xyr, 1):
        labels[np.hypot(rows - y, columns - x) < radius] = label
    return labels


CROWD = discs(
    (100, 170),
    [(30, 30, 20), (68, 34, 19), (120, 60, 24), (168, 10, 14), (0, 98, 14), (60, 75, 12)],
)
"""Touching, alone, cut off by the border and by the corner; no side is a multiple of 8."""


def ious_of_pairs(true: Labels, found: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the IoU of every true object with its partner; there must be nothing else."""
    matching = match_objects(overlap_table(true, found), 0.5)
    assert matching.n_true == matching.n_predicted == len(matching.ious)
    return matching.ious


def check_laws(found: Segmentation, size_hw: tuple[int, int]) -> None:
    """Check what holds of every segmentation."""
    assert found.labels.shape == size_hw
    assert found.labels.dtype == np.int32
    assert found.scores.dtype == found.points_xy.dtype == np.float32
    assert np.unique(found.labels[found.labels > 0]).tolist() == list(range(1, len(found) + 1))
    assert found.points_xy.shape == (len(found), 2)
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.points_xy >= 0).all()
    assert (found.points_xy <= [size_hw[1] - 1, size_hw[0] - 1]).all()
