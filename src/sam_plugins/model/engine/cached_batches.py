"""Batches for a frozen image encoder: windows of the embeddings of whole pictures.

Where only the decoders learn, a picture is encoded once and not at every step, as inference encodes
it: at its full size, with everything around each object. A few views of every picture (mirrored,
turned, with other contrast and noise) take the place of endless ones. Windows of their embeddings
then cost what small crops cost. The view that is the picture itself comes from the cache that all
front ends share, and is there already if somebody has opened the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_plugins.errors import DatasetError
from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.preprocess import padded_size_hw, resized_size_hw
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.rle import decode_mask
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.training.augment import augment
from sam_plugins.model.training.batches import (
    BatchOptions,
    TrainingBatch,
    pictures_digest,
)
from sam_plugins.model.training.choices import CropSize
from sam_plugins.model.training.crops import choose_objects, renumber
from sam_plugins.model.training.pictures import TrainingPicture, resize_nearest
from sam_plugins.model.training.targets import instance_targets

BoolArray = NDArray[np.bool_]

MAX_MEMORY_BYTES = 2 * 2**30
"""What the embeddings of all views may take; with more pictures there are fewer views of each."""

_CELL = 16  # Pixels along a cell of the embedding.
_MAX_TRIES = 20


@dataclass(frozen=True)
class _View:
    """A picture as the encoder sees it, and its truth on the grid of the padded input."""

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]  # (Hp, Wp)
    known: BoolArray  # (Hp, Wp)
    areas: NDArray[np.int64]


@dataclass(frozen=True)
class _Turn:
    """One of the eight ways to lay a picture down."""

    quarters: int = 0
    is_mirrored: bool = False

    def __call__(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn (H, W, ...)."""
        turned = np.rot90(pixels, self.quarters)
        return np.ascontiguousarray(turned[:, ::-1] if self.is_mirrored else turned)


class CachedBatches:
    """Draw batches of windows from embeddings.

    Parameters
    ----------
    pictures : sequence of TrainingPicture
    model : Model
        Whose encoder is frozen.
    options : BatchOptions
        Sizes are of windows in pixels of the network's input; pictures count alike.
    seed : int
    views : int
        Of every picture, itself included; fewer where memory does not allow so many.
    cache : EmbeddingCache, optional
        Of the pictures as they are.
    max_memory_bytes : int
    on_picture : callable, optional
        Told how many pictures are encoded, and how many there are; may raise to stop.

    Raises
    ------
    ValueError
        If ``views`` is below 1.
    """

    def __init__(
        self,
        pictures: Sequence[TrainingPicture],
        model: Model,
        options: BatchOptions,
        seed: int,
        *,
        views: int = 4,
        cache: EmbeddingCache | None = None,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        on_picture: Callable[[int, int], None] | None = None,
    ) -> None:
        if views < 1:
            raise ValueError(f"views must be 1 or more, got {views}")
        self.options = options
        self.seed = seed
        self._pictures = [picture for picture in pictures if len(picture.boxes_xyxy)]
        self._all = pictures
        self._model = model
        self._cache = cache or EmbeddingCache(max_memory_bytes=max_memory_bytes)
        self._max_memory_bytes = max_memory_bytes
        self._kept: dict[tuple[int, int], ImageEmbedding] = {}
        self._view = functools.lru_cache(maxsize=None)(self._make_view)
        self.views = min(views, self._affordable_views(max_memory_bytes, on_picture))

    @functools.cached_property
    def data_digest(self) -> str:
        """Digest of all pictures and labels, of the encoder, and of how many views there are."""
        return f"{pictures_digest(self._all)} {self._model.model_id} views={self.views}"

    def batch(self, step: int) -> TrainingBatch:
        """Return the batch of a step; the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, step, 0])
        sizes = self.options.crop_sizes
        chances = np.array([size.probability for size in sizes])
        size = sizes[int(rng.choice(len(sizes), p=chances / chances.sum()))]
        return _collate([self._window(size, rng) for _ in range(size.images)])

    def encode_all(self) -> None:
        """Encode every view now, so that what follows takes no time for it."""
        for index in range(len(self._pictures)):
            for number in range(self.views):
                self._embedding(index, number)

    def _affordable_views(
        self, max_memory_bytes: int, on_picture: Callable[[int, int], None] | None
    ) -> int:
        """Return for how many views of every picture there is memory, 1 at least."""
        total, count = 0, len(self._pictures)
        for index in range(count):
            if on_picture is not None:
                on_picture(index, count)
            total += self._embedding(index, 0).nbytes
        return max(1, max_memory_bytes // max(1, total))

    def _window(self, size: CropSize, rng: np.random.Generator) -> _Window:
        """Draw a window with at least one object."""
        for _ in range(_MAX_TRIES):
            index = int(rng.integers(len(self._pictures)))
            number = int(rng.integers(self.views))
            view = self._view(index, number)
            rows, columns = self._place(view, self._window_hw(size.pixels), rng)
            labels, known = view.labels[rows, columns], view.known[rows, columns]
            visible = np.bincount(labels[known], minlength=len(view.areas))
            chosen = choose_objects(visible, view.areas, size.objects, rng)
            if len(chosen):
                break
        else:
            raise DatasetError(
                "no labelled object is large enough for the network: none covers 16 pixels of its "
                "input; label larger ones, or enlarge the pictures"
            )
        picture = self._pictures[index]
        masks = [
            self._mask(picture, self._turn(index, number), view, int(label), (rows, columns))
            for label in chosen
        ]
        targets = instance_targets(
            renumber(labels.astype(np.int64)),
            known,
            complete=picture.complete,
            rim_cells=self.options.rim_cells,
        )
        features = _cut(self._embedding(index, number), rows, columns)
        return _Window(features, np.stack(masks), known, targets)

    def _window_hw(self, pixels: int) -> tuple[int, int]:
        """Return the size of windows that lie within every view, in whole cells."""
        height, width = self._smallest_hw
        return min(pixels, height) // _CELL * _CELL, min(pixels, width) // _CELL * _CELL

    @functools.cached_property
    def _smallest_hw(self) -> tuple[int, int]:
        """The height and the width that every view has at least."""
        preprocessing = self._model.preprocessing
        sizes = []
        for index, picture in enumerate(self._pictures):
            height, width = picture.labels.shape
            for number in range(self.views):
                is_lying = self._turn(index, number).quarters % 2 == 1
                size_hw = (width, height) if is_lying else (height, width)
                sizes.append(padded_size_hw(resized_size_hw(size_hw, preprocessing), preprocessing))
        return min(height for height, _ in sizes), min(width for _, width in sizes)

    def _place(
        self, view: _View, size_hw: tuple[int, int], rng: np.random.Generator
    ) -> tuple[slice, slice]:
        """Choose where a window lies: around some pixel of some object, evenly over objects."""
        present = np.flatnonzero(view.areas[1:]) + 1
        label = int(present[int(rng.integers(len(present)))])
        pixels = np.flatnonzero(view.labels == label)
        y, x = divmod(int(pixels[int(rng.integers(len(pixels)))]), view.labels.shape[1])
        slices = []
        for middle, side, full in zip((y, x), size_hw, view.labels.shape, strict=True):
            shift = int(rng.integers(-side // 3, side // 3 + 1))
            start = int(np.clip(middle + shift - side // 2, 0, full - side)) // _CELL * _CELL
            slices.append(slice(start, start + side))
        return slices[0], slices[1]

    def _turn(self, index: int, number: int) -> _Turn:
        """Return how a view lies."""
        if number == 0:
            return _Turn()
        if self._pictures[index].is_upright:
            return _Turn(0, is_mirrored=number % 2 == 1)
        rng = np.random.default_rng([self.seed, index, number, 2])
        return _Turn(int(rng.integers(4)), is_mirrored=bool(rng.random() < 0.5))

    def _make_view(self, index: int, number: int) -> _View:
        """Lay a picture down, change how it looks, and bring its truth to the network's grid."""
        picture, turn = self._pictures[index], self._turn(index, number)
        rgb = turn(picture.rgb).astype(np.uint8)
        if number:
            rng = np.random.default_rng([self.seed, index, number, 3])
            rgb = augment(rgb, rng, is_upright=picture.is_upright)
        size_hw = (rgb.shape[0], rgb.shape[1])
        preprocessing = self._model.preprocessing
        input_hw = resized_size_hw(size_hw, preprocessing)
        padded_hw = padded_size_hw(input_hw, preprocessing)
        inside = (slice(0, input_hw[0]), slice(0, input_hw[1]))
        labels = np.zeros(padded_hw, np.uint16)
        labels[inside] = resize_nearest(turn(picture.labels), input_hw)
        known = np.zeros(padded_hw, bool)
        known[inside] = True
        if picture.ignore is not None:
            known[inside] &= ~resize_nearest(turn(picture.ignore), input_hw).astype(bool)
        return _View(rgb, labels, known, np.bincount(labels.ravel()))

    def _mask(
        self,
        picture: TrainingPicture,
        turn: _Turn,
        view: _View,
        label: int,
        window: tuple[slice, slice],
    ) -> NDArray[np.uint8]:
        """Return an object in a window: whole where the picture tells it, or what is visible."""
        rle = picture.whole_rles.get(label)
        if rle is None:
            visible: NDArray[np.uint8] = (view.labels[window] == label).astype(np.uint8)
            return visible
        size_hw = (view.rgb.shape[0], view.rgb.shape[1])
        height, width = resized_size_hw(size_hw, self._model.preprocessing)
        mask = np.zeros(view.labels.shape, np.uint8)
        mask[:height, :width] = resize_nearest(turn(decode_mask(rle)), (height, width))
        part: NDArray[np.uint8] = mask[window]
        return part

    def _embedding(self, index: int, number: int) -> ImageEmbedding:
        """Return the embedding of a view in half precision, encoding it the first time."""
        kept = self._kept.get((index, number))
        if kept is not None:
            return kept
        rgb = self._view(index, number).rgb
        if number == 0:
            key = embedding_key(rgb, self._model.preprocessing, self._model.model_id)
            embedding = self._cache.get_or_compute(key, lambda: encode_rgb(self._model, rgb))
        else:
            embedding = encode_rgb(self._model, rgb)
        halves = embedding.to("cpu", torch.float16)
        is_finite = all(
            bool(t.isfinite().all()) for t in halves.image_features.named_tensors().values()
        )
        embedding = halves if is_finite else embedding.to("cpu")
        if (
            sum(one.nbytes for one in self._kept.values()) + embedding.nbytes
            <= self._max_memory_bytes
        ):
            self._kept[index, number] = embedding
        return embedding


@dataclass(frozen=True)
class _Window:
    """A part of an embedded picture, and what to ask there."""

    features: ImageFeatures
    masks: NDArray[np.uint8]
    known: BoolArray
    targets: NDArray[np.float32]


def _cut(embedding: ImageEmbedding, rows: slice, columns: slice) -> ImageFeatures:
    """Cut a window, given in pixels of the input, out of every map."""
    height, width = embedding.padded_size_hw

    def cut(maps: Tensor) -> Tensor:
        stride_y, stride_x = height // maps.shape[-2], width // maps.shape[-1]
        part = maps[
            ...,
            rows.start // stride_y : rows.stop // stride_y,
            columns.start // stride_x : columns.stop // stride_x,
        ]
        return part.float()

    return embedding.image_features.map(cut)


def _collate(windows: Sequence[_Window]) -> TrainingBatch:
    """Stack windows."""
    counts = [len(window.masks) for window in windows]
    named = [window.features.named_tensors() for window in windows]
    return TrainingBatch(
        images=torch.zeros((len(windows), 3, 0, 0), dtype=torch.uint8),
        masks=torch.from_numpy(np.concatenate([window.masks for window in windows])),
        image_index=torch.repeat_interleave(torch.arange(len(windows)), torch.tensor(counts)),
        mask_known=torch.from_numpy(np.stack([window.known for window in windows])),
        instance_targets=torch.from_numpy(np.stack([window.targets for window in windows])),
        features=ImageFeatures.from_named_tensors(
            {name: torch.cat([tensors[name] for tensors in named]) for name in named[0]}
        ),
    )
