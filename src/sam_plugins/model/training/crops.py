"""Crops of training pictures at the scale at which the network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from sam_plugins.model.io.rle import decode_mask
from sam_plugins.model.networks.config import IMAGENET_MEAN
from sam_plugins.model.training.pictures import TrainingPicture

BoolArray = NDArray[np.bool_]

MIN_AREA = 16
"""Network pixels of the smallest object that is asked for: one cell of the low-res masks."""

MIN_VISIBLE = 0.3
"""Share of an object that must lie within the crop."""

_JITTER = (0.6, 1.6)
"""Range of factors on the scale at which the network sees a picture."""

_WHOLE_OBJECT_CHANCE = 0.5
"""How often a crop is reduced until the object in its middle fits: one that fills a photograph, as
the network sees it, is larger than most crops, and would be known from its parts alone."""

_WHOLE_OBJECT_SHARES = (0.3, 0.9)
"""Range of shares of the crop's side that such an object then takes."""


@dataclass(frozen=True)
class Crop:
    """A square part of a picture.

    Attributes
    ----------
    rgb : ndarray of shape (S, S, 3), uint8
    labels : ndarray of shape (S, S), int64
        Numbered without gaps.
    masks : ndarray of shape (n, S, S), uint8
        The objects to ask for, whole where the picture tells.
    outer_masks : ndarray of shape (n, S, S), uint8
        The whole object around each of them, as a facade around a window; 0 where there is none.
    known : ndarray of shape (S, S), bool
        False outside of the picture and where it is ignored.
    is_inside : ndarray of shape (S, S), bool
        False outside of the picture, where ``rgb`` is the colour that normalises to zero.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8]
    outer_masks: NDArray[np.uint8]
    known: BoolArray
    is_inside: BoolArray


@dataclass(frozen=True)
class _View:
    """Where the pixels of a crop come from: source = centre + turn @ (pixel - middle)."""

    size: int
    centre_xy: NDArray[np.float64]
    turn: NDArray[np.float64]  # (2, 2), source pixels per crop pixel

    @property
    def scale(self) -> float:
        """Crop pixels per source pixel."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.turn))))

    def source_xy(self) -> NDArray[np.float32]:
        """Positions (S, S, 2) in the picture, x and y."""
        offsets = np.arange(self.size, dtype=np.float64) - (self.size - 1) / 2
        right = offsets[:, None] * self.turn[:, 0]
        down = offsets[:, None] * self.turn[:, 1]
        positions = self.centre_xy + down[:, None] + right[None]
        return positions.astype(np.float32)


def draw_crop(
    picture: TrainingPicture, size: int, max_objects: int, rng: np.random.Generator
) -> Crop:
    """Cut out a square around some object, scaled, turned and mirrored at random.

    Parameters
    ----------
    picture : TrainingPicture
    size : int
        S, pixels of the network's input.
    max_objects : int
        How many objects to ask for at most.
    rng : Generator

    Returns
    -------
    Crop
        It may hold no object that is large enough.
    """
    view = _draw_view(picture, size, rng)
    source = view.source_xy()
    height, width = picture.labels.shape
    x = np.rint(source[..., 0]).astype(np.int64)
    y = np.rint(source[..., 1]).astype(np.int64)
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    labels = np.where(is_inside, picture.labels[y, x], 0).astype(np.int64)
    known = is_inside if picture.ignore is None else is_inside & ~picture.ignore[y, x]
    chosen = _choose(picture, labels, view.scale, max_objects, rng)
    masks = np.zeros((len(chosen), size, size), np.uint8)
    outer_masks = np.zeros_like(masks)
    for index, label in enumerate(chosen.tolist()):
        rle = picture.whole_rles.get(label)
        masks[index] = labels == label if rle is None else decode_mask(rle)[y, x] & is_inside
        outer = picture.outer_labels.get(label)
        if outer is not None:
            outer_masks[index] = decode_mask(picture.whole_rles[outer])[y, x] & is_inside
    rgb = _sample_rgb(picture.rgb, source, view.scale)
    rgb[~is_inside] = np.rint(IMAGENET_MEAN).astype(np.uint8)
    return Crop(rgb, renumber(labels), masks, outer_masks, known, is_inside)


def _draw_view(picture: TrainingPicture, size: int, rng: np.random.Generator) -> _View:
    """Choose scale, turn, mirroring and place."""
    scale = picture.network_scale * float(np.exp(rng.uniform(*np.log(_JITTER))))
    box, reach = None, 0.35
    if len(picture.boxes_xyxy) and rng.random() < 0.9:
        box = picture.boxes_xyxy[rng.integers(len(picture.boxes_xyxy))].astype(np.float64)
        if rng.random() < _WHOLE_OBJECT_CHANCE:
            length = max(box[2] - box[0], box[3] - box[1])
            scale = min(scale, size * float(rng.uniform(*_WHOLE_OBJECT_SHARES)) / length)
            reach = min(reach, (1 - scale * length / size) / 2)
    if picture.is_upright:
        angle = rng.normal(0, 0.12) if rng.random() < 0.3 else 0.0
    else:
        angle = rng.integers(4) * np.pi / 2 + (
            rng.uniform(-np.pi / 4, np.pi / 4) if rng.random() < 0.4 else 0.0
        )
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine * mirror, -sine], [sine * mirror, cosine]]) / scale
    height, width = picture.labels.shape
    extent = np.array([width, height], np.float64)
    if box is None:
        centre = rng.uniform(0, 1, 2) * extent
    else:
        centre = (box[:2] + box[2:] - 1) / 2 + rng.uniform(-reach, reach, 2) * size / scale
    # Keep the crop inside of the picture where it fits, else the picture inside of the crop.
    half = size / scale / 2
    low, high = np.minimum(half, extent - half), np.maximum(half, extent - half)
    centre = np.clip(centre, low - 0.5, high - 0.5)
    return _View(size, centre, turn)


def _choose(
    picture: TrainingPicture,
    labels: NDArray[np.int64],
    scale: float,
    max_objects: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose objects, small and large ones alike."""
    visible = np.bincount(labels.ravel(), minlength=len(picture.areas))
    return choose_objects(visible, picture.areas * scale**2, max_objects, rng)


def choose_objects(
    visible: NDArray[np.int64],
    whole: NDArray[Any],
    max_objects: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose objects to ask for, small and large ones alike.

    Parameters
    ----------
    visible : ndarray of int
        Pixels in the crop by label, background first.
    whole : ndarray
        Pixels of the whole objects at the same scale.
    max_objects : int
    rng : Generator

    Returns
    -------
    ndarray of int
        Labels; of objects of which enough is seen.
    """
    visible = visible.copy()
    visible[0] = 0
    candidates = np.flatnonzero((visible >= MIN_AREA) & (visible >= MIN_VISIBLE * whole))
    if len(candidates) <= max_objects:
        return candidates
    chance = visible[candidates] ** 0.25
    chosen: NDArray[np.int64] = rng.choice(
        candidates, max_objects, replace=False, p=chance / chance.sum()
    )
    return chosen


def renumber(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber labels from 1 without gaps; a table is ten times as fast as ``np.unique``."""
    is_present = np.bincount(labels.ravel()) > 0
    is_present[0] = False
    numbers: NDArray[np.int64] = np.where(is_present, np.cumsum(is_present), 0)
    return numbers[labels]


def _sample_rgb(
    rgb: NDArray[np.uint8], source_xy: NDArray[np.float32], scale: float
) -> NDArray[np.uint8]:
    """Sample a picture at positions (S, S, 2), averaged first where it is reduced."""
    margin = 4
    corners = source_xy[[0, 0, -1, -1], [0, -1, 0, -1]]
    low = np.floor(corners.min(axis=0)).astype(int) - margin
    high = np.ceil(corners.max(axis=0)).astype(int) + margin + 1
    left, top = np.clip(low, 0, [rgb.shape[1] - 1, rgb.shape[0] - 1])
    right, bottom = np.clip(high, [left + 1, top + 1], [rgb.shape[1], rgb.shape[0]])
    window = rgb[top:bottom, left:right]
    factor = max(1, round(1 / scale))
    if factor > 1:
        window = np.asarray(Image.fromarray(np.ascontiguousarray(window)).reduce(factor))
    positions = (source_xy - [left, top] + 0.5) / factor
    size_xy = np.array([window.shape[1], window.shape[0]], np.float32)
    grid = torch.from_numpy((positions / size_xy * 2 - 1).astype(np.float32))
    pixels = torch.from_numpy(np.array(window)).permute(2, 0, 1)[None].float()
    sampled = functional.grid_sample(
        pixels, grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    out: NDArray[np.uint8] = sampled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return out
