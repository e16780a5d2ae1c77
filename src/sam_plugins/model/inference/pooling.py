"""What a mask looks like to the model: the image embedding, averaged under the mask.

Each channel is first measured against the whole picture, in standard deviations from its mean:
what all places of a picture have in common says nothing about one of its objects. Each map of the
embedding, coarse and fine, gives a vector of length 1. A descriptor is all of them side by side,
over the root of their number: the dot product of two descriptors is the mean of the maps' cosines.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from sam_plugins.model.inference.coordinates import CELL
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.io.windows import Window, tight_window

FloatArray = npt.NDArray[np.float32]
Cover = tuple[Window, FloatArray]
"""Rows and columns of low-resolution cells, and which share of each the mask covers."""

_SURE = 6.0
"""Logit of a cell that a given mask covers as a whole."""

_LEAST_SPREAD = 1e-3
"""Standard deviations below are those of a channel that says nothing."""


class MaskDescriber:
    """Describe masks of one picture.

    Parameters
    ----------
    embedding : ImageEmbedding
        Of the picture.
    """

    def __init__(self, embedding: ImageEmbedding) -> None:
        self._valid_hw = embedding.valid_cells_hw
        self._low_height = embedding.low_res_hw[0]
        tensors = (embedding.features, *embedding.skips)
        self._maps = [self._standardised(tensor) for tensor in tensors]

    def _standardised(self, tensor: torch.Tensor) -> tuple[int, FloatArray]:
        """Return how many low-resolution cells a cell of a map is long, and the map (h, w, D)."""
        factor = self._low_height // int(tensor.shape[-2])
        rows, columns = (-(-size // factor) for size in self._valid_hw)
        values = tensor[0, :, :rows, :columns].float().cpu().numpy()
        mean = values.mean(axis=(1, 2), keepdims=True)
        spread = np.maximum(values.std(axis=(1, 2), keepdims=True), _LEAST_SPREAD)
        laid_out: FloatArray = np.ascontiguousarray(((values - mean) / spread).transpose(1, 2, 0))
        return factor, laid_out

    def describe(self, covers: Iterable[Cover]) -> FloatArray:
        """Return the descriptors of some masks.

        Parameters
        ----------
        covers : iterable of (window, ndarray of the window's shape)
            From :func:`cover_of_mask` or :func:`covers_of_packed`; none of them all zero.

        Returns
        -------
        ndarray of shape (n, D), float32
            Of length 1, or 0 where the picture has no structure at all.
        """
        rows = [self._describe_one(window, cover) for window, cover in covers]
        dim = sum(values.shape[-1] for _, values in self._maps)
        return np.stack(rows) if rows else np.zeros((0, dim), np.float32)

    def _describe_one(self, window: Window, cover: FloatArray) -> FloatArray:
        """Return the descriptor of one mask."""
        parts = []
        for factor, values in self._maps:
            (rows, columns), weights = _coarser(window, cover, factor)
            height, width = values.shape[:2]
            weights = weights[: height - rows.start, : width - columns.start]
            pooled = np.tensordot(weights, values[rows, columns], axes=2)
            length = float(np.linalg.norm(pooled))
            parts.append(pooled / length if length > 0 else pooled)
        joined: FloatArray = np.concatenate(parts).astype(np.float32)
        return joined / np.float32(np.sqrt(len(parts)))


def cover_of_mask(mask: npt.NDArray[np.bool_], embedding: ImageEmbedding) -> Cover:
    """Return which share of each low-resolution cell a mask of the picture covers.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        Not empty, of the picture's size.
    embedding : ImageEmbedding
        Of the picture.
    """
    height, width = embedding.input_size_hw
    rows, columns = embedding.valid_cells_hw
    pixels = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    seen = torch.nn.functional.interpolate(pixels, size=(height, width), mode="area")
    padding = (0, columns * CELL - width, 0, rows * CELL - height)
    cells = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(seen, padding), CELL)
    cover: FloatArray = cells[0, 0].numpy()
    window = tight_window(cover)
    assert window is not None
    return window, cover[window]


def logits_of_mask(mask: npt.NDArray[np.bool_], embedding: ImageEmbedding) -> FloatArray:
    """Return a mask as low-resolution logits, as if the model had answered it and were sure.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        Not empty, of the picture's size.
    embedding : ImageEmbedding
        Of the picture.

    Returns
    -------
    ndarray of shape (h, w), float32
        For ``mask_logits`` of :class:`~sam_plugins.Prompts`: a correction is held against it.
    """
    logits = np.full(embedding.low_res_hw, -_SURE, np.float32)
    window, cover = cover_of_mask(mask, embedding)
    logits[window] = (2 * cover - 1) * _SURE
    return logits


def covers_of_packed(packed: PackedMasks) -> Iterable[Cover]:
    """Yield the low-resolution cells of packed masks, none of them empty."""
    for index in range(len(packed)):
        window, mask = packed.unpack(index)
        yield window, mask.astype(np.float32)


def _coarser(window: Window, cover: FloatArray, factor: int) -> Cover:
    """Return the shares of cells that are so many times as long."""
    if factor == 1:
        return window, cover
    slices, margins = [], []
    for axis in window:
        first, last = axis.start // factor, -(-axis.stop // factor)
        slices.append(slice(first, last))
        margins.append((axis.start - first * factor, last * factor - axis.stop))
    height, width = (axis.stop - axis.start for axis in slices)
    blocks = np.pad(cover, margins).reshape(height, factor, width, factor)
    return (slices[0], slices[1]), blocks.mean(axis=(1, 3), dtype=np.float32)
