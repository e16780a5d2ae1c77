"""A compact map is close to the map, and small where its channels and cells are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sam_plugins.model.inference.compact_map import _from_bands, _to_bands, decode_map, encode_map


def smooth(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Mixtures of a few smooth maps, as an encoder's channels are."""
    rng = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(rng.normal(size=(6, *shape[1:])), (0, 3, 3))
    mixed = np.tensordot(rng.normal(size=(shape[0], 6)), maps, 1)
    scale = np.exp(rng.normal(size=(shape[0], 1, 1)))
    return (mixed * scale + rng.normal(size=(shape[0], 1, 1))).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 16, 16), (12, 38, 48), (5, 7, 3), (16, 64, 80), (1, 1, 1)])
@pytest.mark.parametrize("step", [0.02, 0.2])
def test_the_error_is_about_a_third_of_the_step(shape: tuple[int, int, int], step: float) -> None:
    values = smooth(shape)
    parts = encode_map(values, step)
    assert parts is not None
    error = (decode_map(parts) - values) / np.maximum(values.std(axis=(1, 2), keepdims=True), 1e-6)
    assert np.sqrt(np.mean(error**2)) < 0.36 * step


def test_what_is_alike_takes_little_room() -> None:
    values = smooth((48, 96, 96))
    parts = encode_map(values, 0.05)
    assert parts is not None
    assert sum(part.nbytes for part in parts.values()) < values.nbytes / 2 / 10


def test_what_nothing_is_alike_in_is_right_too() -> None:
    values = np.random.default_rng(0).normal(size=(8, 24, 24)).astype(np.float32)
    parts = encode_map(values, 0.05)
    assert parts is not None
    assert np.abs(decode_map(parts) - values).max() < 0.2


def test_a_plain_map() -> None:
    values = np.full((3, 8, 8), 2.5, np.float32)
    parts = encode_map(values, 0.05)
    assert parts is not None
    assert np.abs(decode_map(parts) - values).max() < 1e-3


def test_an_outlier_of_thousands_of_deviations() -> None:
    values = smooth((4, 128, 128))
    values[0, 5, 5] += 1e6
    parts = encode_map(values, 0.001)
    assert parts is None or np.isfinite(decode_map(parts)).all()


@pytest.mark.parametrize("size", [(8, 8), (64, 96), (70, 65), (3, 17)])
def test_bands_and_back(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(1).normal(size=(2, *size)).astype(np.float32)
    assert np.abs(_from_bands(_to_bands(maps), *size) - maps).max() < 1e-5
