"""Crops of unlabelled pictures with some of their patches hidden, as pre-training takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam_plugins.model.training.pretraining_config import PretrainingConfig
from sam_plugins.model.training.unlabelled import UnlabelledPictures, pictures_of_step

_RATIOS = (3 / 4, 4 / 3)
_MAX_TRIES = 10


@dataclass(frozen=True)
class MaskedBatch:
    """B crops, and in which order their patches count.

    Attributes
    ----------
    images : Tensor of shape (B, 3, S, S), uint8
    order : Tensor of shape (B, L), int64
        A random order of the patches of each: the first ones are seen.
    """

    images: Tensor
    order: Tensor

    def to(self, device: torch.device) -> MaskedBatch:
        """Return the batch on another device."""
        return MaskedBatch(self.images.to(device), self.order.to(device))


class MaskedBatches:
    """Draw batches, each a pure function of the seed and the step.

    Parameters
    ----------
    pictures : UnlabelledPictures
    config : PretrainingConfig
    """

    def __init__(self, pictures: UnlabelledPictures, config: PretrainingConfig) -> None:
        self.pictures = pictures
        self.config = config

    def batch(self, step: int) -> MaskedBatch:
        """Return the batch of a step: pictures, crops and masks at random."""
        config = self.config
        indices = pictures_of_step(step, config.batch_size, len(self.pictures), config.seed)
        return self._drawn(indices, np.random.default_rng([config.seed, step]))

    def fixed(self, first: int, last: int) -> MaskedBatch:
        """Return pictures by their numbers, always with the same crops and masks."""
        rng = np.random.default_rng([self.config.seed, first, 1])
        return self._drawn(range(first, last), rng)

    def _drawn(self, indices: Iterable[int], rng: np.random.Generator) -> MaskedBatch:
        """Draw crops of pictures, mirrored or not, and their masks."""
        size, share = self.config.network.image_size, self.config.min_crop_share
        crops = []
        for index in indices:
            crop = random_crop(self.pictures[index], size, rng, min_share=share)
            crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        return self._collate(crops, rng)

    def _collate(self, crops: list[NDArray[np.uint8]], rng: np.random.Generator) -> MaskedBatch:
        """Stack crops and draw their masks."""
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
        noise = rng.random((len(crops), self.config.network.patches))
        return MaskedBatch(images, torch.from_numpy(noise.argsort(axis=1)))


def random_crop(
    rgb: NDArray[np.uint8], size: int, rng: np.random.Generator, *, min_share: float
) -> NDArray[np.uint8]:
    """Cut out a rectangle and resize it to a square (Szegedy et al. 2015; the paper's only change).

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
    size : int
        Side of the square.
    rng : Generator
    min_share : float
        Least share of the area; the most is 1. Sides are between 3 : 4 and 4 : 3.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
        Resized by Pillow's bicubic filter, which averages when it reduces. Where the picture is too
        long and narrow for any such rectangle, its middle square.
    """
    height, width = rgb.shape[:2]
    for _ in range(_MAX_TRIES):
        area = height * width * rng.uniform(min_share, 1)
        ratio = float(np.exp(rng.uniform(*np.log(_RATIOS))))
        w, h = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return _resized(rgb, (left, top, left + w, top + h), size)
    return middle_crop(rgb, size)


def middle_crop(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the square in the middle of a picture, as large as fits, resized."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return _resized(rgb, (left, top, left + side, top + side), size)


def _resized(
    rgb: NDArray[np.uint8], box: tuple[float, float, float, float], size: int
) -> NDArray[np.uint8]:
    """Resize the part of a picture within edges x0, y0, x1, y1."""
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
