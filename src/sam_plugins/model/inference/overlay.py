"""A picture to look at: the image with every object outlined and lightly filled.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which people with any kind of colour
vision can tell apart. Objects close to each other get different ones, and where there is a choice
none that are nearly alike, by greedy colouring of the graph of neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

PALETTE: npt.NDArray[np.uint8] = np.array(
    [
        (230, 159, 0),  # orange
        (86, 180, 233),  # sky blue
        (0, 158, 115),  # bluish green
        (240, 228, 66),  # yellow
        (0, 114, 178),  # blue
        (213, 94, 0),  # vermillion
        (204, 121, 167),  # reddish purple
    ],
    np.uint8,
)

_ALIKE = ((0, 3), (0, 5), (1, 4))
"""Pairs of :data:`PALETTE` that differ by less than 30 in CIEDE2000, as lines on a picture look."""

_NEIGHBOUR_STEPS = (1, 3, 6)  # pixels: objects this close need different colours


def draw_overlay(
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
    scores: npt.ArrayLike | None = None,
    *,
    fill_opacity: float = 0.25,
    line_width: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the picture with its objects drawn over it.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees, from :func:`~sam_plugins.to_rgb`.
    labels : ndarray of shape (H, W), integer
        Objects, 0 is background.
    scores : array_like of shape (n,), optional
        Score of the object with label ``i + 1`` at place ``i``; written in its middle as percent.
    fill_opacity : float
        0 (outlines only) to 1.
    line_width : int, optional
        Width of the outlines in pixels, drawn inside the objects. By default 1 for pictures of up
        to about 750 pixels, growing with the picture.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        A new picture.

    Raises
    ------
    ValueError
        If the shapes do not fit, the labels are no integers or negative, ``fill_opacity`` is out of
        range, or a label has no score.
    """
    labels = np.asarray(labels)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != labels.shape or rgb.dtype != np.uint8:
        raise ValueError(
            "rgb must be of shape (H, W, 3) and type uint8, labels of shape (H, W), "
            f"got {rgb.shape}, {rgb.dtype} and {labels.shape}"
        )
    if labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.dtype.kind == "i" and int(labels.min(initial=0)) < 0:
        raise ValueError(f"labels must not be negative, got {int(labels.min())}")
    if not 0 <= fill_opacity <= 1:
        raise ValueError(f"fill_opacity must lie between 0 and 1, got {fill_opacity}")
    width = max(1, round(max(labels.shape) / 500)) if line_width is None else line_width
    where = labels > 0
    numbers, compact = np.unique(labels[where], return_inverse=True)
    dense = np.zeros(labels.shape, np.int32)
    dense[where] = compact.reshape(-1) + 1
    colours = np.concatenate([np.zeros((1, 3), np.uint8), PALETTE[neighbour_colours(dense)]])
    result = rgb.copy()
    opacity = np.float32(fill_opacity)
    filled = rgb[where] * (1 - opacity) + colours[dense[where]] * opacity
    result[where] = np.rint(filled).astype(np.uint8)
    edges = inner_boundaries(dense, width)
    result[edges] = colours[dense[edges]]
    return result if scores is None else _with_scores(result, dense, numbers, scores)


def neighbour_colours(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """Return a place in :data:`PALETTE` for each object, different ones for close neighbours.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        Objects numbered 1 to n, 0 is background.

    Returns
    -------
    ndarray of shape (n,), intp
        Objects with more neighbours than there are colours take the one that fewest neighbours
        have; otherwise one that fewest neighbours have nearly (orange beside yellow), and of those
        the one that is used least.
    """
    count = int(labels.max(initial=0))
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for first, second in _close_pairs(labels):
        neighbours[first].add(second)
        neighbours[second].add(first)
    is_alike = np.zeros((len(PALETTE), len(PALETTE)), np.int64)
    for one, other in _ALIKE:
        is_alike[one, other] = is_alike[other, one] = 1
    chosen = np.full(count + 1, -1, np.intp)
    used = np.zeros(len(PALETTE), np.int64)
    # crowded objects first: they have the least choice
    for label in sorted(range(1, count + 1), key=lambda i: (-len(neighbours[i]), i)):
        around = chosen[list(neighbours[label])] if neighbours[label] else np.empty(0, np.intp)
        conflicts = np.bincount(around[around >= 0], minlength=len(PALETTE))
        chosen[label] = np.lexsort((used, is_alike @ conflicts, conflicts))[0]
        used[chosen[label]] += 1
    return chosen[1:]


def inner_boundaries(labels: npt.NDArray[np.integer[Any]], width: int = 1) -> npt.NDArray[np.bool_]:
    """Return the pixels of objects within ``width`` pixels of another label or the background.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        0 is background. The border of the picture is no boundary.
    width : int
        Width of the line in pixels, 1 or more.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If ``width`` is less than 1.
    """
    if width < 1:
        raise ValueError(f"width must be 1 or more, got {width}")
    edges = np.zeros(labels.shape, bool)
    differs = labels[1:] != labels[:-1]
    edges[1:] |= differs
    edges[:-1] |= differs
    differs = labels[:, 1:] != labels[:, :-1]
    edges[:, 1:] |= differs
    edges[:, :-1] |= differs
    if width > 1:
        edges = ndimage.binary_dilation(edges, iterations=width - 1)
    result: npt.NDArray[np.bool_] = edges & (labels > 0)
    return result


def _close_pairs(labels: npt.NDArray[np.integer[Any]]) -> set[tuple[int, int]]:
    """Return the pairs of objects that lie within a few pixels of each other."""
    base = int(labels.max(initial=0)) + 1
    codes: list[npt.NDArray[np.int64]] = []
    for step in _NEIGHBOUR_STEPS:
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            here, there = _shifted(labels, dy, dx)
            differ = (here != there) & (here > 0) & (there > 0)
            codes.append(np.unique(here[differ].astype(np.int64) * base + there[differ]))
    return {divmod(int(code), base) for code in np.unique(np.concatenate(codes))}


def _shifted(
    labels: npt.NDArray[Any], dy: int, dx: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return two views of the labels, one moved by (dy, dx), cut to where they overlap."""
    height, width = labels.shape
    rows, rows_moved = slice(0, max(0, height - dy)), slice(dy, height)
    if dx >= 0:
        return labels[rows, : max(0, width - dx)], labels[rows_moved, dx:]
    return labels[rows, -dx:], labels[rows_moved, : max(0, width + dx)]


def _with_scores(
    rgb: npt.NDArray[np.uint8],
    dense: npt.NDArray[np.int32],
    numbers: npt.NDArray[np.integer[Any]],
    scores: npt.ArrayLike,
) -> npt.NDArray[np.uint8]:
    """Write each object's score in the middle of its box."""
    values = np.asarray(scores, np.float64)
    if numbers.size and len(values) < int(numbers[-1]):
        raise ValueError(
            f"scores must have one entry per label, {int(numbers[-1])}, got {len(values)}"
        )
    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default()
    for number, where in zip(numbers, ndimage.find_objects(dense), strict=True):
        score = values[int(number) - 1]
        middle = [(side.start + side.stop) / 2 for side in where]
        text = f"{100 * score:.0f}" if np.isfinite(score) else "?"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        at = (middle[1] - (left + right) / 2, middle[0] - (top + bottom) / 2)
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):  # a dark rim: readable on any ground
            draw.text((at[0] + dx, at[1] + dy), text, fill=(0, 0, 0), font=font)
        draw.text(at, text, fill=(255, 255, 255), font=font)
    return np.array(picture)
