"""Masks of accepted regions, and the negative points with which people correct them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam_plugins.labelstudio_backend.context import PixelAsk
from sam_plugins.labelstudio_backend.sessions import Made
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction
from sam_plugins.model.io.windows import tight_window


def covers(made: Made, embedding: ImageEmbedding, points_xy: npt.NDArray[np.float64]) -> bool:
    """Return whether a region covers all of some points."""
    mask = _prediction(made.logits.astype(np.float32), embedding).mask(0)
    columns, rows = np.round(points_xy).astype(int).T
    return bool(mask[rows, columns].all())


def _prediction(logits: npt.NDArray[np.float32], embedding: ImageEmbedding) -> MaskPrediction:
    """Return low-resolution logits as an answer that can be drawn."""
    return MaskPrediction(
        logits[None, None],
        np.ones((1, 1), np.float32),
        embedding.original_size_hw,
        embedding.input_size_hw,
        embedding.padded_size_hw,
    )


def is_disobeyed(mask: npt.NDArray[np.bool_], pixels: PixelAsk) -> bool:
    """Return whether a mask covers a negative point."""
    columns, rows = np.round(pixels.points_xy[pixels.point_labels == 0]).astype(int).T
    return bool(mask[rows, columns].any())


def cut(mask: npt.NDArray[np.bool_], pixels: PixelAsk) -> npt.NDArray[np.bool_]:
    """Return a mask without what is nearer to a negative point than to a positive one."""
    inside = tight_window(mask)
    if inside is None:
        return mask.copy()
    y, x = np.ogrid[inside]

    def distance(label: int) -> npt.NDArray[np.float64]:
        places = pixels.points_xy[pixels.point_labels == label]
        squares = [(x - px) ** 2 + (y - py) ** 2 for px, py in places]
        return np.asarray(np.min(squares, axis=0), np.float64)

    kept = np.zeros_like(mask)
    kept[inside] = mask[inside] & (distance(1) < distance(0))
    return kept


def from_inside(
    pixels: PixelAsk, logits: npt.NDArray[np.float32], embedding: ImageEmbedding
) -> PixelAsk:
    """Return points without their box, and with one on the region, far from the negative ones."""
    mask = _prediction(logits, embedding).mask(0)
    columns, rows = np.round(pixels.points_xy[pixels.point_labels == 0]).astype(int).T
    beside = np.ones(mask.shape, bool)
    beside[rows, columns] = False
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    far = np.minimum(depth, ndimage.distance_transform_edt(beside) / 2)
    y, x = np.unravel_index(int(far.argmax()), far.shape)
    return PixelAsk(
        np.concatenate([pixels.points_xy, np.array([[x, y]], np.float64)]),
        np.concatenate([pixels.point_labels, np.array([1])]),
    )
