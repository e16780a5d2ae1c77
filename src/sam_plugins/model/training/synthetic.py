"""Labelled pictures out of nothing: shapes on textures, for what the data sets lack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.training.pictures import TrainingPicture

FloatArray = NDArray[np.float64]


def synthetic_picture(rng: np.random.Generator, size: int = 384) -> TrainingPicture:
    """Draw a picture with objects of one kind.

    Parameters
    ----------
    rng : Generator
        Decides everything.
    size : int
        Height and width in pixels.

    Returns
    -------
    TrainingPicture
        Complete, of the set ``synthetic``.
    """
    kind = str(rng.choice(["blobs", "tiling"], p=[0.7, 0.3]))
    labels = _tiling(rng, size) if kind == "tiling" else _blobs(rng, size)
    return TrainingPicture("synthetic", kind, _paint(labels, rng), labels.astype(np.uint16))


def _blobs(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Draw closed curves of similar size: ellipses, rods and wobbly blobs; later ones on top."""
    labels = np.zeros((size, size), np.int64)
    radius = float(np.exp(rng.uniform(np.log(4), np.log(90))))
    count = int(np.clip(rng.uniform(0.1, 0.7) * size**2 / (np.pi * radius**2), 1, 150))
    wobble = float(rng.choice([0.0, 0.1, 0.25]))
    elongation = float(rng.uniform(1, 1.6) if rng.random() < 0.75 else rng.uniform(2, 6))
    may_overlap = rng.random() < 0.5
    for label in range(1, count + 1):
        length = radius * float(rng.uniform(0.6, 1.5))
        axes = np.array([length * np.sqrt(elongation), length / np.sqrt(elongation)])
        reach = int(axes.max() * (1 + 2 * wobble)) + 2
        x, y = rng.uniform(0, size, 2)
        left, top = max(0, int(x) - reach), max(0, int(y) - reach)
        window = (slice(top, int(y) + reach), slice(left, int(x) + reach))
        rows, columns = np.mgrid[window[0], window[1]]
        rows, columns = rows[: size - top, : size - left], columns[: size - top, : size - left]
        inside = _inside(rows - y, columns - x, axes, wobble, rng)
        place = labels[window]
        if not may_overlap and (place[inside] > 0).any():
            continue
        place[inside] = label
    return labels


def _inside(
    dy: FloatArray, dx: FloatArray, axes: FloatArray, wobble: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Tell which pixels lie in an ellipse whose radius wobbles with the angle."""
    angle = rng.uniform(0, np.pi)
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = -dx * np.sin(angle) + dy * np.cos(angle)
    direction = np.arctan2(across, along)
    radius = np.ones_like(direction)
    for frequency in (2, 3, 5):
        radius += wobble * rng.normal(0, 0.5) * np.cos(frequency * direction + rng.uniform(0, 6.3))
    power = float(rng.choice([2.0, 2.0, 4.0]))
    ratio = np.abs(along / axes[0]) ** power + np.abs(across / axes[1]) ** power
    within: NDArray[np.bool_] = ratio < np.maximum(radius, 0.3) ** power
    return within


def _tiling(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    """Cells that fill the plane (Voronoi), with or without gaps, some of them missing."""
    spacing = float(np.exp(rng.uniform(np.log(14), np.log(120))))
    count = max(3, int((size / spacing) ** 2))
    points = rng.uniform(0, size, (count, 2))
    seeds = np.zeros((size, size), bool)
    seeds[points[:, 0].astype(int), points[:, 1].astype(int)] = True
    _, nearest = ndimage.distance_transform_edt(~seeds, return_indices=True)
    shake = [ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), 6) * 25 for _ in range(2)]
    rows, columns = np.indices((size, size))
    rows = np.clip(rows + shake[0], 0, size - 1).astype(int)
    columns = np.clip(columns + shake[1], 0, size - 1).astype(int)
    code = (nearest[0] * size + nearest[1])[rows, columns]
    labels: NDArray[np.int64]
    labels = np.unique(code, return_inverse=True)[1].reshape(size, size) + 1
    gap = int(rng.integers(0, 4))
    if gap:
        edges = ndimage.grey_erosion(labels, 3) != ndimage.grey_dilation(labels, 3)
        labels[ndimage.binary_dilation(edges, iterations=gap)] = 0
    missing = rng.random(labels.max() + 1) < float(rng.choice([0.0, 0.3]))
    labels[missing[labels]] = 0
    return labels


def _paint(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Colour the objects: brightness, texture, rims, a point spread and noise."""
    shape = labels.shape
    base = rng.uniform(0, 1, 3)
    contrast = rng.normal(0, 1, 3)
    contrast *= rng.uniform(0.12, 0.6) / np.linalg.norm(contrast)
    if rng.random() < 0.6:
        base[:], contrast[:] = base[0], contrast[0]
    each = rng.normal(1, rng.choice([0.05, 0.3]), labels.max() + 1)
    each[0] = 0
    inside = (labels > 0).astype(float)
    image = base + (each[labels])[..., None] * contrast
    image += _texture(rng, shape)[..., None] * rng.uniform(0, 0.12)
    image += (_texture(rng, shape) * inside)[..., None] * rng.uniform(0, 0.25) * contrast * 2
    if rng.random() < 0.5:
        edges = ndimage.grey_erosion(labels, 3) != ndimage.grey_dilation(labels, 3)
        rim = ndimage.gaussian_filter(edges.astype(float), float(rng.uniform(0.4, 1.5)))
        image += rim[..., None] * rng.uniform(-0.7, 0.7)
        if rng.random() < 0.4:  # Only the rim tells object and background apart.
            image -= inside[..., None] * contrast
    sigma = float(rng.uniform(0.3, 1.6))
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    image += rng.normal(0, rng.uniform(0.005, 0.06), image.shape)
    painted: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return painted


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Smooth noise of one scale, standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), float(rng.choice([1, 3, 10, 30])))
    texture: FloatArray = noise / (noise.std() + 1e-9)
    return texture
