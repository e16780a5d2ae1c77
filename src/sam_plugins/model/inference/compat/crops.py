"""Where segment_anything's mask generator looks: crops of the picture, and points in each.

Kirillov et al. 2023, appendix B: layer ``i`` cuts the picture into ``2 ** i`` by ``2 ** i``
overlapping crops, and every crop gets a regular grid of points.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.coordinates import SizeHW

IntArray = npt.NDArray[np.int64]
Box = tuple[int, int, int, int]

_NEAR = 20
"""Pixels: a mask that comes so near to the edge of a crop was probably cut off there."""


def build_point_grid(n_per_side: int) -> npt.NDArray[np.float64]:
    """Return points that cover the unit square evenly.

    Parameters
    ----------
    n_per_side : int
        Points along each side.

    Returns
    -------
    ndarray of shape (n_per_side ** 2, 2), float64
        x before y, row by row.

    Raises
    ------
    ValueError
        If ``n_per_side`` is less than 1.

    Examples
    --------
    >>> build_point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    half = 1 / (2 * count("n_per_side", n_per_side))
    places = np.linspace(half, 1 - half, n_per_side)
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)


def layer_grids(
    points_per_side: int, n_layers: int, downscale_factor: int
) -> list[npt.NDArray[np.float64]]:
    """Return the grid of each layer, the whole picture first.

    Parameters
    ----------
    points_per_side : int
        Of the whole picture.
    n_layers : int
        Of crops.
    downscale_factor : int
        From one layer to the next there are so many times fewer points along a side.

    Raises
    ------
    ValueError
        If a layer would have no points.
    """
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(n_layers + 1)]
    if min(sides) < 1:
        raise ValueError(
            "points_per_side must leave points for every layer, got "
            f"{', '.join(map(str, sides))} along a side; take more points, fewer crop layers or a "
            "smaller crop_n_points_downscale_factor"
        )
    return [build_point_grid(side) for side in sides]


def crop_boxes(size_hw: SizeHW, n_layers: int, overlap_ratio: float) -> list[tuple[int, Box]]:
    """Return the layer and the box (x0, y0, x1, y1; the last ones outside) of every crop.

    Parameters
    ----------
    size_hw : (int, int)
        Height and width of the picture.
    n_layers : int
        Of crops; the whole picture is layer 0.
    overlap_ratio : float
        Part of the shorter side by which the crops of layer 1 overlap; half of it in layer 2, and
        so on.

    Examples
    --------
    >>> crop_boxes((8, 12), 1, 0.25)[:2]
    [(0, (0, 0, 12, 8)), (1, (0, 0, 7, 5))]
    """
    height, width = size_hw
    boxes: list[tuple[int, Box]] = [(0, (0, 0, width, height))]
    for layer in range(1, n_layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        wide, high = (math.ceil((side + overlap * (count - 1)) / count) for side in (width, height))
        # Columns first, as segment_anything goes: among equal masks the first one stays.
        boxes += [
            (layer, (x, y, min(x + wide, width), min(y + high, height)))
            for x, y in itertools.product(
                *([index * (length - overlap) for index in range(count)] for length in (wide, high))
            )
        ]
    return boxes


def is_cut_off(boxes_xyxy: IntArray, crop: Box, size_hw: SizeHW) -> npt.NDArray[np.bool_]:
    """Return which boxes come near to an edge of their crop that is no edge of the picture.

    Parameters
    ----------
    boxes_xyxy : ndarray of shape (n, 4)
        In pixels of the crop.
    crop : (int, int, int, int)
        The crop's box in the picture.
    size_hw : (int, int)
        Of the picture.
    """
    height, width = size_hw
    places = boxes_xyxy + np.array([*crop[:2], *crop[:2]])
    near_crop = np.abs(places - np.array(crop)) <= _NEAR
    near_picture = np.abs(places - np.array([0, 0, width, height])) <= _NEAR
    result: npt.NDArray[np.bool_] = (near_crop & ~near_picture).any(axis=1)
    return result
