"""Automatic segmentation: every object of a picture, nobody asked, beside a floor.

The floor is what anyone can do without learning: a threshold (Otsu 1979) and a watershed on the
distance to the border (the textbook way to part touching objects). A model that does not beat it
on a set is of no use there, so it stands in every table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.evaluation.metrics import (
    MSA_THRESHOLDS,
    average_precisions,
    mask_dice,
    panoptic_quality,
    split_merge_errors,
)
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.io.labelled import LabelledImage

Segmenter = Callable[[NDArray[Any]], NDArray[Any]]
"""From a picture as it comes from a file to a label image of shape (H, W), integer."""

FLOOR_NAME = "Otsu + watershed"

# Chosen among a dozen settings on pictures of dsb2018's train split, where all came within 0.06 mSA
# of each other; pixels.
_MIN_AREA = 16
_NOISE_SIGMA = 0.5
_DISTANCE_SIGMA = 2.0
_MIN_PEAK_DISTANCE = 7


@dataclass(frozen=True, slots=True)
class PictureScore:
    """How one picture was segmented.

    Attributes
    ----------
    method : str
        Who segmented it.
    set_name, image_id : str
        The picture.
    n_true, n_predicted : int
        Objects annotated and found, outside the ignored region.
    msa, ap50, ap75 : float
        ``TP / (TP + FP + FN)``: mean over IoU .50:.05:.95, and at .50 and .75.
    pq, sq, rq : float
        Panoptic quality and its factors.
    dice : float
        Of the foreground; NaN where the annotation is not complete.
    splits, merges : int
        Objects cut up and run together.
    seconds : float
        Time to segment.
    accuracies : tuple of float
        ``TP / (TP + FP + FN)`` at IoU .50, .55, ..., .95.
    """

    method: str
    set_name: str
    image_id: str
    n_true: int
    n_predicted: int
    msa: float
    ap50: float
    ap75: float
    pq: float
    sq: float
    rq: float
    dice: float
    splits: int
    merges: int
    seconds: float
    accuracies: tuple[float, ...] = ()


def evaluate_automatic(
    segmenters: Mapping[str, Segmenter], images: Iterable[LabelledImage]
) -> Iterator[PictureScore]:
    """Segment every picture with every method and compare with the visible labels.

    Parameters
    ----------
    segmenters : mapping of str to callable
        Methods by name, such as ``{"default": ..., FLOOR_NAME: otsu_watershed}``.
    images : iterable of LabelledImage
        Read one at a time.

    Yields
    ------
    PictureScore
        Picture by picture, methods in the given order. False positives are not counted where the
        annotation is not complete.

    Raises
    ------
    ValueError
        If a method returns labels of another size than the picture's.
    """
    for image in images:
        for method, segmenter in segmenters.items():
            start = time.perf_counter()
            predicted = segmenter(image.image)
            seconds = time.perf_counter() - start
            if predicted.shape != image.labels.shape:
                raise ValueError(
                    f"{method} must return labels of shape {image.labels.shape} for "
                    f"{image.set_name}/{image.id}, got {predicted.shape}"
                )
            yield score_picture(image, predicted, method=method, seconds=seconds)


def score_picture(
    image: LabelledImage,
    predicted: NDArray[Any],
    *,
    method: str = "",
    seconds: float = float("nan"),
) -> PictureScore:
    """Compare one label image with the ground truth.

    Parameters
    ----------
    image : LabelledImage
        The picture with its ground truth.
    predicted : ndarray of shape (H, W), integer
        Found objects, 0 is background.
    method : str
        Who found them.
    seconds : float
        How long it took.

    Raises
    ------
    ValueError
        If the sizes differ or a label is negative.
    TypeError
        If ``predicted`` does not hold integers.
    """
    table = overlap_table(image.labels, predicted, ignore=image.ignore)
    values = average_precisions(table, complete=image.complete)
    quality = panoptic_quality(table, complete=image.complete)
    errors = split_merge_errors(table)
    dice = mask_dice(image.labels > 0, predicted > 0, ignore=image.ignore)
    return PictureScore(
        method=method,
        set_name=image.set_name,
        image_id=image.id,
        n_true=table.true_ids.size,
        n_predicted=table.predicted_ids.size,
        msa=float(values.mean()),
        ap50=float(values[MSA_THRESHOLDS.index(0.5)]),
        ap75=float(values[MSA_THRESHOLDS.index(0.75)]),
        pq=quality.pq,
        sq=quality.sq,
        rq=quality.rq,
        dice=dice if image.complete else float("nan"),
        splits=errors.splits,
        merges=errors.merges,
        seconds=seconds,
        accuracies=tuple(values.tolist()),
    )


def otsu_watershed(image: NDArray[Any]) -> NDArray[np.int32]:
    """Segment by Otsu's threshold and a watershed on the distance to the border.

    Parameters
    ----------
    image : ndarray of shape (H, W), (H, W, C) or (C, H, W)
        Any picture; turned grey as a model would see it.

    Returns
    -------
    ndarray of shape (H, W), int32
        Objects of 16 pixels and more. The rarer side of the threshold is taken for foreground, as
        nobody says whether objects are bright or dark; a uniform picture has none.
    """
    # Costs half a second to import: only who measures the floor pays it.
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    grey = ndimage.gaussian_filter(to_rgb(image).mean(axis=2), _NOISE_SIGMA)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.int32)
    foreground = grey > threshold_otsu(grey)  # type: ignore[no-untyped-call]
    if foreground.mean() > 0.5:
        foreground = ~foreground
    foreground = ndimage.binary_fill_holes(foreground)
    distance = ndimage.distance_transform_edt(foreground)
    smooth = ndimage.gaussian_filter(distance, _DISTANCE_SIGMA)
    pieces, _ = ndimage.label(foreground)
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        smooth, min_distance=_MIN_PEAK_DISTANCE, labels=pieces, exclude_border=False
    )
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-smooth, markers, mask=foreground)  # type: ignore[no-untyped-call]
    areas = np.bincount(labels.ravel())
    kept = areas >= _MIN_AREA
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    result: NDArray[np.int32] = numbers[labels]
    return result
