"""Change how a picture looks without changing what is where."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

FloatArray = NDArray[np.float32]

_GRAIN_LEVELS = (0.02, 0.25)
"""Range of deviations of coarse noise, of a brightness of 1."""


def augment(
    rgb: NDArray[np.uint8], rng: np.random.Generator, *, is_upright: bool = False
) -> NDArray[np.uint8]:
    """Change contrast, colours, sharpness and noise, each with some probability.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
    rng : Generator
    is_upright : bool
        Photographs are changed less: nobody inverts them or shuffles their channels.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    image: FloatArray = rgb.astype(np.float32) / np.float32(255)
    strength = 0.5 if is_upright else 1.0
    if rng.random() < 0.15 * strength:
        image = 1 - image
    if rng.random() < 0.2 * strength:
        image = image[..., rng.permutation(3)]
    if rng.random() < 0.15:
        image = np.repeat(image @ _random_mixture(rng), 3, axis=-1)
    elif rng.random() < 0.15 * strength:
        image = image @ rng.dirichlet([0.7] * 3, 3).astype(np.float32).T
    if rng.random() < 0.5:
        image = image ** float(np.exp(rng.normal(0, 0.35 * strength)))
    if rng.random() < 0.5:
        image = _contrast(image, rng, strength)
    if rng.random() < 0.2:
        image = image * _shading((image.shape[0], image.shape[1]), rng)
    if rng.random() < 0.25:
        sigma = float(rng.uniform(0.3, 1.8))
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    elif rng.random() < 0.15:
        blurred = ndimage.gaussian_filter(image, (1.0, 1.0, 0))
        image = image + float(rng.uniform(0.3, 1.0)) * (image - blurred)
    if rng.random() < 0.3:
        image = _noise(image, rng)
    changed: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return changed


def _random_mixture(rng: np.random.Generator) -> FloatArray:
    """Weights (3, 1) that make a grey picture."""
    weights: FloatArray = rng.dirichlet([1.5] * 3).astype(np.float32)[:, None]
    return weights


def _contrast(image: FloatArray, rng: np.random.Generator, strength: float) -> FloatArray:
    """Change contrast and brightness, now and then of each channel on its own."""
    channels = 3 if rng.random() < 0.4 else 1
    gain = np.exp(rng.normal(0, 0.3 * strength, channels)).astype(np.float32)
    shift = rng.normal(0, 0.1 * strength, channels).astype(np.float32)
    middle = np.float32(image.mean())
    changed: FloatArray = (image - middle) * gain + middle + shift
    return changed


def _shading(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Uneven illumination of shape (H, W, 1): brighter on one side."""
    angle = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-1, 1, size_hw[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, size_hw[1], dtype=np.float32)[None, :]
    slope = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    shaded: FloatArray = (1 + np.float32(rng.uniform(0.1, 0.4)) * slope)[..., None]
    return shaded


def _noise(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Add noise of the camera, in all channels alike or not; at times more where it is bright.

    As often as not it is as coarse as the noise of a picture that is enlarged for the network is
    there, and then also as strong as where few photons were counted.
    """
    channels = 1 if rng.random() < 0.5 else 3
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        noise = _grain((height, width, channels), float(rng.uniform(1.5, 4.0)), rng)
        level = np.float32(np.exp(rng.uniform(*np.log(_GRAIN_LEVELS))))
    else:
        noise = rng.standard_normal((height, width, channels), dtype=np.float32)
        level = np.float32(rng.uniform(0.01, 0.09))
    if rng.random() < 0.5:
        noise = noise * np.sqrt(np.clip(image, 0, 1) + np.float32(0.05))
    noisy: FloatArray = image + level * noise
    return noisy


def _grain(shape: tuple[int, int, int], factor: float, rng: np.random.Generator) -> FloatArray:
    """Noise (H, W, C) of deviation 1 in pixels that many times as large, enlarged bilinearly."""
    height, width, channels = shape
    coarse = rng.standard_normal(
        (channels, math.ceil(height / factor), math.ceil(width / factor)), dtype=np.float32
    )
    fine = functional.interpolate(
        torch.from_numpy(coarse)[None], size=(height, width), mode="bilinear"
    )[0]
    grain: FloatArray = (fine / fine.std().clamp(min=1e-6)).permute(1, 2, 0).numpy()
    return grain
