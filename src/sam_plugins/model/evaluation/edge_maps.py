"""Pictures of edges: those of a label image, of a promptable model, and of two old detectors.

The model's edges are made as in the Segment Anything paper (Kirillov et al. 2023, section 7.2 and
appendix D.2): a 16 x 16 grid of points, three masks each, duplicates removed; the gradient (Sobel)
of every mask's probabilities where its border is; the largest over all masks; thinned.

What differs:

- The gradient stays on both sides of a mask's border and not on the outer one alone, because
  thinning needs a ridge to find its crest.
- Masks of which the model thinks little are left out, the others weigh by the root of their score,
  and the map is smoothed before it is thinned. A small model answers a point on empty ground with a
  disc around it, and a disc has an outline too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.evaluation.mask_grid import grid_masks
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.rgb import to_rgb

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

GRID_POINTS = 16
"""Points along each side."""

MIN_PREDICTED_IOU = 0.2
"""From which a mask counts: what automatic segmentation asks for."""

_SCORE_POWER = 0.5
_MAP_SIGMA = 1.0  # pixels; these three are chosen on four train pictures of dsb2018 and animals
_MAX_IOU = 0.7  # of two masks that are no duplicates, as in automatic segmentation
_LEAST_LOGIT = -8.0  # a probability of 0.0003: no gradient to speak of beyond
_SMOOTHING = 2.0  # pixels, to see which way a line runs
_SOBEL_SIGMA = 1.5
_CANNY_SIGMA = 2.0
_CANNY_LOW = 0.4  # of the high threshold, the share of Canny's own examples
_CANNY_STEPS = 50


def label_edges(labels: NDArray[Any]) -> BoolArray:
    """Return the boundaries between the labels of an image, one pixel wide.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        0 is background. Where two objects touch there is one line, not two; the border of the
        picture is no boundary.

    Returns
    -------
    ndarray of shape (H, W), bool

    Examples
    --------
    >>> label_edges(np.array([[1, 1, 2, 0]])).astype(int)
    array([[0, 1, 1, 0]])
    """
    from skimage.morphology import thin

    edges = np.zeros(labels.shape, bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    thinned: BoolArray = thin(edges)  # type: ignore[no-untyped-call]
    return thinned


def model_edges(
    model: Model,
    image: NDArray[Any],
    *,
    points_per_side: int = GRID_POINTS,
    min_predicted_iou: float = MIN_PREDICTED_IOU,
) -> FloatArray:
    """Return how strongly a model sees an edge at each pixel.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (H, W), (H, W, C) or (C, H, W)
        As it comes from a file.
    points_per_side : int
        Of the grid.
    min_predicted_iou : float
        Masks of which the model thinks less draw no edge.

    Returns
    -------
    ndarray of shape (H, W), float32
        In [0, 1]; lines a pixel or two wide.
    """
    embedding = encode_image(model, image)
    masks = grid_masks(
        model,
        embedding,
        points_per_side,
        max_iou=_MAX_IOU,
        least_logit=_LEAST_LOGIT,
        min_predicted_iou=min_predicted_iou,
    )
    strength = np.zeros(embedding.original_size_hw, np.float32)
    for window, logits, score in masks.enlarge():
        probability = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        gradient = np.hypot(ndimage.sobel(probability, 0), ndimage.sobel(probability, 1))
        mask = (logits > 0).view(np.uint8)
        weight = np.float32(max(score, 0) ** _SCORE_POWER)
        border = ndimage.maximum_filter(mask, 3) != ndimage.minimum_filter(mask, 3)
        np.maximum(strength[window], np.where(border, weight * gradient, 0), out=strength[window])
    return thinned(ndimage.gaussian_filter(strength, _MAP_SIGMA))


def sobel_edges(image: NDArray[Any]) -> FloatArray:
    """Return the thinned gradient (Sobel) of a picture in grey.

    Parameters
    ----------
    image : ndarray of shape (H, W), (H, W, C) or (C, H, W)
        Turned grey as a model would see it, and smoothed by 1.5 pixels: without, texture decides.

    Returns
    -------
    ndarray of shape (H, W), float32
        Height of the step at each pixel, 1 from black to white: the same in every picture, so that
        one threshold can suit them all.
    """
    from skimage.filters import sobel

    grey = ndimage.gaussian_filter(to_rgb(image).mean(axis=2) / 255, _SOBEL_SIGMA)
    steps = sobel(grey) / _sobel_of_step()  # type: ignore[no-untyped-call]
    return _crests(np.clip(steps, 0, 1).astype(np.float32))


def canny_edges(image: NDArray[Any]) -> FloatArray:
    """Return the highest threshold at which Canny's detector (1986) sees an edge at each pixel.

    Parameters
    ----------
    image : ndarray of shape (H, W), (H, W, C) or (C, H, W)
        Turned grey as a model would see it, and smoothed by 2 pixels.

    Returns
    -------
    ndarray of shape (H, W), float32
        Height of the step that the high threshold asks for, from 0.02 to 1 in steps of 0.02; the
        low threshold is 0.4 of the high one.
    """
    from skimage.feature import canny

    grey = to_rgb(image).mean(axis=2) / 255
    strength = np.zeros(grey.shape, np.float32)
    of_step = 8 / (_CANNY_SIGMA * np.sqrt(2 * np.pi))  # Sobel's sums of a smoothed step
    for step in range(1, _CANNY_STEPS + 1):
        high = of_step * step / _CANNY_STEPS
        found = canny(  # type: ignore[no-untyped-call]
            grey, _CANNY_SIGMA, low_threshold=_CANNY_LOW * high, high_threshold=high
        )
        if not found.any():
            break
        strength[found] = step / _CANNY_STEPS
    return strength


def thinned(strength: FloatArray) -> FloatArray:
    """Return a map of edges with only the crest of each line, stretched to end at 1.

    Parameters
    ----------
    strength : ndarray of shape (H, W), float32
        0 or more.

    Returns
    -------
    ndarray of shape (H, W), float32
        0 where a pixel is weaker than its neighbours across the line (Canny's rule). Which way
        that is says the curvature of the smoothed map: across a line it is most negative.

    Examples
    --------
    >>> thinned(np.array([[0, 1, 3, 1, 0]] * 5, np.float32))[2].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    lines = _crests(strength)
    highest = float(lines.max(initial=0))
    return lines / np.float32(highest) if highest else lines


def _sobel_of_step() -> float:
    """Return what scikit-image's filter makes of a smoothed step from 0 to 1, beside the step."""
    near, far = (math.erf(away / (_SOBEL_SIGMA * math.sqrt(2))) for away in (0.5, 1.5))
    return (near + far) / 2 / math.sqrt(2)


def _crests(strength: FloatArray) -> FloatArray:
    """Return a map of edges with only the crest of each line."""
    smooth = ndimage.gaussian_filter(strength, _SMOOTHING, mode="nearest")
    dy, dx = np.gradient(np.pad(smooth, 1, mode="edge"))
    dyy, dyx = np.gradient(dy)
    dxx = np.gradient(dx, axis=1)
    inner = slice(1, -1), slice(1, -1)
    # Angle of the axis of greatest curvature; the one of least is across a bright line.
    angle = 0.5 * np.arctan2(2 * dyx[inner], dxx[inner] - dyy[inner]) + np.pi / 2
    rows, columns = np.indices(strength.shape)
    steps = np.sin(angle), np.cos(angle)
    crest = strength > 0
    for sign in (1, -1):
        places = [rows + sign * steps[0], columns + sign * steps[1]]
        beside = ndimage.map_coordinates(strength, places, order=1, mode="nearest")
        crest &= strength >= beside
    return np.where(crest, strength, 0).astype(np.float32)
