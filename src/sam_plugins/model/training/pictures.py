"""Labelled pictures in memory, ready to be cropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.inference.preprocess import resize_rgb, resized_size_hw
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.labelled import LARGEST_PART, PART_INSIDE, LabelledImage
from sam_plugins.model.io.rle import decode_mask, encode_mask, mask_area
from sam_plugins.model.networks.config import Preprocessing

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """A picture with its objects.

    Attributes
    ----------
    set_name, id : str
        Where it comes from.
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees.
    labels : ndarray of shape (H, W), uint16
        0 is background.
    ignore : ndarray of shape (H, W), bool, or None
        True where the truth is not known.
    whole_rles : mapping of int to COCO RLE
        Whole masks of objects that others cover in part.
    complete : bool
        Whether every visible object carries a mask.
    is_upright : bool
        Whether up and down mean something, as in photographs.
    network_scale : float
        Factor by which the picture is enlarged when the network sees it.
    """

    set_name: str
    id: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    ignore: BoolArray | None = None
    whole_rles: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    complete: bool = True
    is_upright: bool = False
    network_scale: float = 1.0

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Visible pixels of each label, background included."""
        counted: NDArray[np.int64] = np.bincount(self.labels.ravel())
        return counted

    @cached_property
    def outer_labels(self) -> Mapping[int, int]:
        """The smallest whole object around each one that lies within such: label to label."""
        sizes = self.areas.copy()
        for label, rle in self.whole_rles.items():
            sizes[label] = mask_area(rle)
        found: dict[int, int] = {}
        for outer in sorted(self.whole_rles, key=lambda label: -int(sizes[label])):
            shared = np.bincount(
                self.labels[decode_mask(self.whole_rles[outer])], minlength=len(sizes)
            )
            is_part = (shared > 0) & (shared >= PART_INSIDE * self.areas)
            is_part &= sizes <= LARGEST_PART * sizes[outer]
            found |= {label: outer for label in np.flatnonzero(is_part).tolist() if label}
        return found

    @cached_property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """Bounding box of every object there is, shape (n, 4), edges of pixels."""
        windows = [window for window in ndimage.find_objects(self.labels) if window is not None]
        edges = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in windows]
        return np.array(edges, np.float32).reshape(-1, 4)


def picture_of(
    image: LabelledImage, preprocessing: Preprocessing, *, is_upright: bool = False
) -> TrainingPicture:
    """Return a labelled picture as training takes it.

    Parameters
    ----------
    image : LabelledImage
    preprocessing : Preprocessing
        Decides at which scale the network sees the picture; what is larger is reduced here.
    is_upright : bool
        Whether up and down mean something, as in photographs.

    Raises
    ------
    ValueError
        If there are more than 65,535 objects.
    """
    rgb = to_rgb(image.image)
    height, width = rgb.shape[:2]
    seen_hw = resized_size_hw((height, width), preprocessing)
    factor = min(1.0, preprocessing.max_long_side / max(height, width))
    size_hw = (max(1, round(height * factor)), max(1, round(width * factor)))
    labels, whole_masks = _small_numbers(image)
    return TrainingPicture(
        set_name=image.set_name,
        id=image.id,
        rgb=resize_rgb(rgb, size_hw),
        labels=resize_nearest(labels, size_hw).astype(np.uint16),
        ignore=None if image.ignore is None else resize_nearest(image.ignore, size_hw),
        whole_rles={
            int(key): encode_mask(resize_nearest(mask, size_hw))
            for key, mask in whole_masks.items()
        },
        complete=image.complete,
        is_upright=is_upright,
        network_scale=max(seen_hw) / max(size_hw),
    )


def _small_numbers(image: LabelledImage) -> tuple[NDArray[Any], Mapping[int, NDArray[np.bool_]]]:
    """Return labels that fit 16 bits, and the whole masks of the same numbers."""
    most = np.iinfo(np.uint16).max
    if image.labels.max(initial=0) <= most:
        return image.labels, image.whole_masks
    numbers, places = np.unique(image.labels, return_inverse=True)
    places = places.reshape(image.labels.shape) + (numbers[0] > 0)
    if places.max() > most:
        raise ValueError(
            f"{image.id} must hold at most {most} objects, got {places.max()}; crop it"
        )
    found = dict(zip(numbers.tolist(), np.unique(places).tolist(), strict=True))
    return places, {found[key]: mask for key, mask in image.whole_masks.items() if key in found}


def resize_nearest(pixels: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[Any]:
    """Reduce a label image or a mask by its nearest pixels."""
    height, width = pixels.shape
    rows = ((np.arange(size_hw[0]) + 0.5) * height / size_hw[0]).astype(int)
    columns = ((np.arange(size_hw[1]) + 0.5) * width / size_hw[1]).astype(int)
    resized: NDArray[Any] = pixels[rows][:, columns]
    return resized
