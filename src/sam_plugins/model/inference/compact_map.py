"""One map of an embedding in a tenth to a quarter of float16's bytes, by transform coding.

Channels of a map say nearly the same, and so do neighbouring cells. Three steps use that, as image
codecs do (Goyal 2001, "Theoretical foundations of transform coding"): channels of equal variance
are turned to their principal axes (Karhunen-Loève transform), blocks of each axis to frequencies
(DCT), and all coefficients are rounded to multiples of one step, which spreads the error evenly.
What is left are mostly zeros, which Zstandard codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_ROUND_UP_FROM = 0.6
"""Coefficients between two multiples go to the smaller one up to here: a tenth fewer bytes."""

_LARGE_BLOCK, _SMALL_BLOCK = 16, 8
_LARGE_FROM = 64
_LEVEL = 5
_LEAST_DEVIATION = 1e-6
_LARGEST_CODE = 2**15 - 1


def encode_map(values: FloatArray, step: float) -> dict[str, npt.NDArray[Any]] | None:
    """Return the parts of a compact map.

    Parameters
    ----------
    values : ndarray of shape (D, h, w), float32
        Finite.
    step : float
        To multiples of it coefficients are rounded, in standard deviations of a channel. The
        largest part of the error of a value is about a third of it.

    Returns
    -------
    dict of str to ndarray, or None
        ``mean``, ``basis``, ``energy``, ``shape`` and ``codes``; None where the values are so far
        apart that the codes do not hold them.
    """
    channels, height, width = values.shape
    mean = values.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    rows = values.reshape(channels, -1) - mean[:, None]
    deviation = np.maximum(rows.std(axis=1), _LEAST_DEVIATION)
    rows /= deviation[:, None]
    _, axes = np.linalg.eigh(rows @ rows.T)
    # Rounded before it is used, so that its rounding costs nothing.
    basis = (deviation[:, None] * axes[:, ::-1]).astype(np.float16)
    turned = np.linalg.solve(basis.astype(np.float32) / deviation[:, None], rows)
    bands = _to_bands(turned.reshape(values.shape))
    codes = np.sign(bands) * np.floor(np.abs(bands) / step + (1 - _ROUND_UP_FROM))
    if not np.isfinite(basis).all() or np.abs(codes).max(initial=0) > _LARGEST_CODE:
        return None
    used = max(1, int(np.flatnonzero(codes.any(axis=(1, 2))).max(initial=0)) + 1)
    codes = codes[:used].astype(np.int16)
    size = np.abs(codes, dtype=np.float32).mean(axis=2)
    energy = np.concatenate([size.mean(axis=1), size.mean(axis=0)])
    return {
        "mean": mean,
        "basis": np.ascontiguousarray(basis[:, :used]),
        "energy": energy,
        "shape": np.array([height, width], np.int32),
        "step": np.array([step], np.float32),
        "codes": _packed(codes.reshape(-1, codes.shape[2])[_order(energy, used)]),
    }


def decode_map(parts: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
    """Return the map of :func:`encode_map`'s parts, of shape (D, h, w).

    Raises
    ------
    ValueError
        If they do not fit together.
    """
    height, width = map(int, parts["shape"])
    basis = parts["basis"].astype(np.float32)
    used = basis.shape[1]
    block = _block(height, width)
    cells = -(-height // block) * -(-width // block)
    order = _order(parts["energy"], used)
    bands = np.empty((used * block * block, cells), np.float32)
    bands[order] = _unpacked(parts["codes"], (len(order), cells)) * parts["step"][0]
    turned = _from_bands(bands.reshape(used, block * block, cells), height, width)
    values: FloatArray = basis @ turned.reshape(used, -1) + parts["mean"][:, None]
    return values.reshape(-1, height, width)


def _block(height: int, width: int) -> int:
    """Return the side of the blocks of a map."""
    return _LARGE_BLOCK if min(height, width) >= _LARGE_FROM else _SMALL_BLOCK


def _cosines(side: int) -> FloatArray:
    """Return the orthonormal DCT-II of a row, as a matrix (Ahmed et al. 1974)."""
    frequency, place = np.mgrid[:side, :side]
    matrix = np.sqrt(2 / side) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * side))
    matrix[0] /= np.sqrt(2)
    cosines: FloatArray = matrix.astype(np.float32)
    return cosines


def _to_bands(maps: FloatArray) -> FloatArray:
    """Return the frequencies of blocks: (D, h, w) to (D, block * block, blocks)."""
    count, height, width = maps.shape
    block = _block(height, width)
    down, across = -(-height // block), -(-width // block)
    beyond = ((0, 0), (0, down * block - height), (0, across * block - width))
    blocks = np.pad(maps, beyond, mode="edge").reshape(count, down, block, across, block)
    cosines = _cosines(block)
    columns = np.matmul(cosines, blocks.transpose(0, 1, 3, 2, 4))  # (D, down, across, block, block)
    bands: FloatArray = columns @ cosines.T
    return np.ascontiguousarray(
        bands.reshape(count, down * across, block * block).transpose(0, 2, 1)
    )


def _from_bands(bands: FloatArray, height: int, width: int) -> FloatArray:
    """Undo :func:`_to_bands`."""
    block = _block(height, width)
    down, across = -(-height // block), -(-width // block)
    count = len(bands)
    blocks = bands.transpose(0, 2, 1).reshape(count, down, across, block, block)
    cosines = _cosines(block)
    maps: FloatArray = (np.matmul(cosines.T, blocks) @ cosines).transpose(0, 1, 3, 2, 4)
    return maps.reshape(count, down * block, across * block)[:, :height, :width]


def _order(energy: npt.NDArray[np.float32], used: int) -> npt.NDArray[np.intp]:
    """Return the bands from loud to silent, so that neighbours in the file are alike."""
    loudness = np.outer(energy[:used], energy[used:]).ravel()
    return np.argsort(-loudness, kind="stable")


def _packed(codes: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """Return codes as bytes: all low ones, then all high ones, which are nearly all zero."""
    zigzag = ((codes << 1) ^ (codes >> 15)).astype("<u2")
    halves = zigzag.view(np.uint8).reshape(-1, 2).T
    return np.frombuffer(imagecodecs.zstd_encode(halves.tobytes(), _LEVEL), np.uint8)


def _unpacked(packed: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.int16]:
    """Undo :func:`_packed`."""
    size = 2 * shape[0] * shape[1]
    halves = np.frombuffer(imagecodecs.zstd_decode(packed.tobytes(), out=size), np.uint8)
    zigzag = np.ascontiguousarray(halves.reshape(2, -1).T).view("<u2").reshape(shape)
    return ((zigzag >> 1) ^ (-(zigzag & 1).astype(np.int32)).astype(np.uint16)).astype(np.int16)
