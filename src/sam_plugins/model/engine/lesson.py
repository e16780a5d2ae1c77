"""A teacher, and what it made of pictures: computed once, kept on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_plugins.errors import OutputError
from sam_plugins.model.engine.agreement import clicks_of
from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.coordinates import points_to_input
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.memory import in_units
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import prepare_input
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.atomic import make_folder
from sam_plugins.model.training.distillation_config import DistillationConfig
from sam_plugins.model.training.unlabelled import UnlabelledPictures, pictures_of_step

_FOR_STATISTICS = 32


class Lesson:
    """A teacher and its embeddings, rounded to float16 where they are kept.

    Parameters
    ----------
    teacher : Model
    folder : Path
        Of the embeddings; none is ever dropped.
    """

    def __init__(self, teacher: Model, folder: Path) -> None:
        self.teacher = teacher
        self.folder = make_folder(folder)
        self._cache = EmbeddingCache(folder, max_memory_bytes=0, max_disk_bytes=1 << 62)

    def embedding(self, pictures: UnlabelledPictures, index: int) -> ImageEmbedding:
        """Return the teacher's embedding of a picture, computing it where it is not kept yet."""
        rgb = pictures[index]
        key = embedding_key(rgb, self.teacher.preprocessing, self.teacher.model_id)
        embedding = self._cache.get_or_compute(
            key, lambda: encode_rgb(self.teacher, rgb), device=self.teacher.device
        )
        # What the cache cannot keep comes as it was made: no gradient can pass beside it.
        features = embedding.image_features
        return embedding.with_features(features.map(lambda t: t.clone() if t.is_inference() else t))

    def prepare(
        self, pictures: UnlabelledPictures, on_encoded: Callable[[], None]
    ) -> tuple[float, ...]:
        """Encode all pictures that are not encoded yet.

        Returns
        -------
        tuple of float
            Of each map, the embedding first: the mean of its channels' variances, over all places
            of the first pictures together.

        Raises
        ------
        OutputError
            If the disk has no room for all embeddings.
        """
        moments: list[list[NDArray[np.float64]]] = []
        for index in range(len(pictures)):
            embedding = self.embedding(pictures, index)
            if index == 0:
                self._require_room(embedding.nbytes // 2, len(pictures))
            if index < _FOR_STATISTICS:
                maps = embedding.image_features.named_tensors().values()
                moments.append([_channel_moments(part) for part in maps])
            on_encoded()
        means = [np.mean(parts, axis=0) for parts in zip(*moments, strict=True)]
        return tuple(max(float((m[1] - m[0] ** 2).mean()), 1e-12) for m in means)

    def _require_room(self, size: int, count: int) -> None:
        """Refuse a disk that cannot hold the embeddings that are still missing."""
        needed = max(0, size * count - self._cache.disk_bytes)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OutputError(
                f"the teacher's embeddings of {count} pictures need {in_units(needed)} more, and "
                f"{in_units(free)} are free in {self.folder}; choose a work folder on another "
                "disk, or fewer pictures"
            )


def _channel_moments(maps: Tensor) -> NDArray[np.float64]:
    """Return mean and mean square (2, D) of the channels of (1, D, h, w)."""
    values = maps.double()
    moments = torch.stack([values.mean(dim=(0, 2, 3)), values.square().mean(dim=(0, 2, 3))])
    array: NDArray[np.float64] = moments.cpu().numpy()
    return array


@dataclass(frozen=True)
class Example:
    """A picture as the student takes it, what the teacher made of it, and clicks on it.

    Attributes
    ----------
    pixels : Tensor of shape (1, 3, H, W)
    target : ImageEmbedding
    clicks_xy : ndarray of shape (N, 2), float32
        Pixels of the picture.
    """

    pixels: Tensor
    target: ImageEmbedding
    clicks_xy: NDArray[np.float32]

    def input_points_xy(self) -> Tensor:
        """Return the clicks (N, 1, 2) in pixels of the network's input."""
        target = self.target
        points = points_to_input(
            self.clicks_xy[:, None], target.original_size_hw, target.input_size_hw
        )
        return torch.from_numpy(points).to(self.pixels.device)


@dataclass(frozen=True)
class Examples:
    """Pictures with their teacher's embeddings, for any step.

    Attributes
    ----------
    lesson : Lesson
    pictures : UnlabelledPictures
    config : DistillationConfig
    """

    lesson: Lesson
    pictures: UnlabelledPictures
    config: DistillationConfig

    def batch(self, step: int) -> list[Example]:
        """Return the pictures of a step, each with clicks of its own."""
        config = self.config
        numbers = pictures_of_step(step, config.batch_size, len(self.pictures), config.seed)
        return [
            self.example(number, config.decoder_clicks, config.seed + 1 + step)
            for number in numbers
        ]

    def example(self, index: int, clicks: int, seed: int) -> Example:
        """Return one picture, with so many clicks, drawn by a seed."""
        teacher = self.lesson.teacher
        target = self.lesson.embedding(self.pictures, index)
        pixels, _ = prepare_input(self.pictures[index], teacher.preprocessing)
        clicks_xy = clicks_of(target.original_size_hw, clicks, seed)
        return Example(pixels.to(teacher.device), target, clicks_xy)
