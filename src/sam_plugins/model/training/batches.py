"""Batches of crops, each a pure function of the seed and the step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.training.augment import augment
from sam_plugins.model.training.choices import CropSize
from sam_plugins.model.training.crops import Crop, draw_crop
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.synthetic import synthetic_picture
from sam_plugins.model.training.targets import RIM_CELLS, instance_targets

_MAX_TRIES = 8


@dataclass(frozen=True)
class BatchOptions:
    """What a batch is drawn from.

    Parameters
    ----------
    crop_sizes : tuple of CropSize
        A network that was trained on one size falters on another: every size that is used must be
        trained. All cost about the same time.
    synthetic_share : float
        Share of pictures that are drawn and not photographed.
    set_shares : mapping of str to float
        Share of some sets; the others divide what is left.
    power : float
        Among the others, a set counts as the number of its pictures to this power.
    rim_cells : int
        On incompletely labelled pictures, background is trusted so many cells of 4 pixels around
        objects, and nowhere else.
    plain_share : float
        Share of crops that look as the picture does. What a faint halo says of where annotators of
        such pictures draw the outline, changes of contrast, noise and blur take away.
    """

    crop_sizes: tuple[CropSize, ...] = (
        CropSize(256, 10, 4, 0.38),
        CropSize(384, 6, 3, 0.30),
        CropSize(512, 4, 4, 0.20),
        CropSize(768, 2, 4, 0.12),
    )
    synthetic_share: float = 0.08
    set_shares: Mapping[str, float] = field(
        default_factory=lambda: {"dsb2018": 0.16, "usiigaci_phase": 0.06}
    )
    power: float = 0.4
    rim_cells: int = RIM_CELLS
    plain_share: float = 0.0


@dataclass(frozen=True)
class TrainingBatch:
    """B crops and N objects to ask for.

    Attributes
    ----------
    images : Tensor of shape (B, 3, H, W), uint8
    masks : Tensor of shape (N, H, W), uint8
        1 inside the object.
    image_index : Tensor of shape (N,), int64
        The crop of every object.
    mask_known : Tensor of shape (B, H, W), bool
        False where the truth is not known.
    instance_targets : Tensor of shape (B, 4, H / 4, W / 4), float32
        From :func:`~sam_plugins.model.training.targets.instance_targets`.
    features : ImageFeatures, optional
        Of the crops, where they are known already: a frozen encoder is not asked again.
    outer_masks : Tensor of shape (N, H, W), uint8, optional
        The whole object around each; 0 where there is none.
    """

    images: Tensor
    masks: Tensor
    image_index: Tensor
    mask_known: Tensor
    instance_targets: Tensor
    features: ImageFeatures | None = None
    outer_masks: Tensor | None = None

    def to(self, device: torch.device) -> TrainingBatch:
        """Return the batch on another device."""
        features = self.features
        return TrainingBatch(
            self.images.to(device),
            self.masks.to(device),
            self.image_index.to(device),
            self.mask_known.to(device),
            self.instance_targets.to(device),
            None if features is None else features.map(lambda tensor: tensor.to(device)),
            None if self.outer_masks is None else self.outer_masks.to(device),
        )


class Batches(Protocol):
    """Whatever gives a batch for every step."""

    @property
    def options(self) -> BatchOptions:
        """What a batch is drawn from."""

    @property
    def data_digest(self) -> str:
        """Digest of all that teaches in the pictures."""

    def batch(self, step: int) -> TrainingBatch:
        """Return the batch of a step; the same whenever and wherever it is asked for."""


class BatchMaker:
    """Draw batches.

    Parameters
    ----------
    pictures : sequence of TrainingPicture
    options : BatchOptions
    seed : int
    chances : sequence of float, optional
        How often each picture is drawn, relative to the others of its set; all alike by default.

    Raises
    ------
    ValueError
        If there are no pictures, or not a positive chance for each.
    """

    def __init__(
        self,
        pictures: Sequence[TrainingPicture],
        options: BatchOptions,
        seed: int,
        chances: Sequence[float] | None = None,
    ) -> None:
        if not pictures:
            raise ValueError("there must be at least one picture to train on, got none")
        if chances is not None and (len(chances) != len(pictures) or min(chances) <= 0):
            raise ValueError(
                f"chances must be positive, one for each of {len(pictures)} pictures, got "
                f"{len(chances)} of at least {min(chances, default=0)}"
            )
        self.options = options
        self.seed = seed
        self._pictures = pictures
        self._by_set: dict[str, list[TrainingPicture]] = {}
        for picture in pictures:
            self._by_set.setdefault(picture.set_name, []).append(picture)
        self._chances = None if chances is None else _chances_by_set(pictures, chances)
        self._names = sorted(self._by_set)
        self.shares = set_shares({k: len(v) for k, v in self._by_set.items()}, options)

    @cached_property
    def data_digest(self) -> str:
        """Digest of all that teaches in the pictures, and of chances, in their order."""
        digest = pictures_digest(self._pictures)
        if self._chances is None:
            return digest
        text = json.dumps([digest, {name: list(p) for name, p in self._chances.items()}])
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    def batch(self, step: int) -> TrainingBatch:
        """Return the batch of a step; the same whenever and wherever it is asked for."""
        rng = np.random.default_rng([self.seed, step, 0])
        sizes = self.options.crop_sizes
        chances = np.array([size.probability for size in sizes])
        size = sizes[int(rng.choice(len(sizes), p=chances / chances.sum()))]
        crops: list[tuple[TrainingPicture, Crop]] = []
        while len(crops) < size.images:
            crops.append(self._crop(size, rng))
        return _collate(crops, rng, self.options)

    def _crop(self, size: CropSize, rng: np.random.Generator) -> tuple[TrainingPicture, Crop]:
        """Draw a crop with at least one object."""
        for _ in range(_MAX_TRIES):
            picture = self._picture(rng)
            crop = draw_crop(picture, size.pixels, size.objects, rng)
            if len(crop.masks):
                return picture, crop
        while True:
            picture = synthetic_picture(rng)
            crop = draw_crop(picture, size.pixels, size.objects, rng)
            if len(crop.masks):
                return picture, crop

    def _picture(self, rng: np.random.Generator) -> TrainingPicture:
        """Draw a set, then one of its pictures; or make one."""
        if rng.random() < self.options.synthetic_share:
            return synthetic_picture(rng)
        name = self._names[int(rng.choice(len(self._names), p=self.shares))]
        pictures = self._by_set[name]
        if self._chances is None:
            return pictures[int(rng.integers(len(pictures)))]
        return pictures[int(rng.choice(len(pictures), p=self._chances[name]))]


def _chances_by_set(
    pictures: Sequence[TrainingPicture], chances: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Return the probability of each picture within its set."""
    by_set: dict[str, list[float]] = {}
    for picture, chance in zip(pictures, chances, strict=True):
        by_set.setdefault(picture.set_name, []).append(chance)
    return {name: np.array(values) / sum(values) for name, values in by_set.items()}


def pictures_digest(pictures: Sequence[TrainingPicture]) -> str:
    """Return the digest of all that teaches in pictures, in their order.

    Pixels, labels, ignored regions, whole masks, and what a picture says of itself: with any other
    value of these, a run would learn something else.
    """
    digest = hashlib.blake2b(digest_size=32)
    for picture in pictures:
        arrays: list[NDArray[Any]] = [picture.rgb, picture.labels]
        if picture.ignore is not None:
            arrays.append(picture.ignore)
        said = {
            "picture": [picture.set_name, picture.id],
            "whole": {str(key): dict(rle) for key, rle in sorted(picture.whole_rles.items())},
            "complete": bool(picture.complete),
            "upright": bool(picture.is_upright),
            "scale": float(picture.network_scale),
            # Where one array ends and the next begins.
            "arrays": [[one.dtype.str, *one.shape] for one in arrays],
        }
        digest.update(json.dumps(said, sort_keys=True).encode())
        for one in arrays:
            digest.update(one.tobytes())
    return digest.hexdigest()


def set_shares(counts: Mapping[str, int], options: BatchOptions) -> list[float]:
    """Return the probability of each set, in the order of their names.

    Examples
    --------
    >>> set_shares({"a": 10, "b": 10, "c": 1}, BatchOptions(set_shares={"c": 0.5}))
    [0.25, 0.25, 0.5]
    """
    fixed = {name: share for name, share in options.set_shares.items() if name in counts}
    free = {name: count**options.power for name, count in counts.items() if name not in fixed}
    left = 1 - sum(fixed.values()) if free else 0.0
    total = sum(free.values())
    shares = {name: left * value / total for name, value in free.items()} | fixed
    whole = sum(shares.values())
    return [shares[name] / whole for name in sorted(shares)]


def _collate(
    crops: Sequence[tuple[TrainingPicture, Crop]],
    rng: np.random.Generator,
    options: BatchOptions,
) -> TrainingBatch:
    """Stack crops."""
    images, targets = [], []
    for picture, crop in crops:
        images.append(torch.from_numpy(_look(picture, crop, rng, options)).permute(2, 0, 1))
        targets.append(
            instance_targets(
                crop.labels, crop.known, complete=picture.complete, rim_cells=options.rim_cells
            )
        )
    counts = [len(crop.masks) for _, crop in crops]
    return TrainingBatch(
        images=torch.stack(images),
        masks=torch.from_numpy(np.concatenate([crop.masks for _, crop in crops])),
        image_index=torch.repeat_interleave(torch.arange(len(crops)), torch.tensor(counts)),
        mask_known=torch.from_numpy(np.stack([crop.known for _, crop in crops])),
        instance_targets=torch.from_numpy(np.stack(targets)),
        outer_masks=torch.from_numpy(np.concatenate([crop.outer_masks for _, crop in crops])),
    )


def _look(
    picture: TrainingPicture, crop: Crop, rng: np.random.Generator, options: BatchOptions
) -> NDArray[np.uint8]:
    """Change how a crop looks, or leave it; the outside of the picture stays as it is."""
    if options.plain_share and rng.random() < options.plain_share:
        return crop.rgb
    changed = augment(crop.rgb, rng, is_upright=picture.is_upright)
    changed[~crop.is_inside] = crop.rgb[~crop.is_inside]
    return changed
