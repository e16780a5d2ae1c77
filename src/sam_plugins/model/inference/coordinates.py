"""Between pixels of the original image and pixels of the encoder's input.

One convention for every model, SAM's: ``x_input = x * input_width / original_width``, without a
shift by half a pixel, so that our numbers equal those of the official code. The sizes are those
*before* padding, which is only added at the bottom and the right and moves nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SizeHW = tuple[int, int]

CELL = 4
"""Input pixels along a cell of the low-resolution masks."""


def points_to_input(
    points_xy: npt.ArrayLike, original_size_hw: SizeHW, input_size_hw: SizeHW
) -> npt.NDArray[np.float32]:
    """Scale points from the original image to the encoder's input.

    Parameters
    ----------
    points_xy : array_like of shape (..., 2)
        Pixels of the original image, x to the right and y down, integers are pixel centres.
    original_size_hw, input_size_hw : (int, int)
        Height and width of the original image and of the resized input before padding.

    Returns
    -------
    ndarray of shape (..., 2), float32
        Pixels of the input; computed in float64 and rounded once.

    Raises
    ------
    ValueError
        If the last axis does not have length 2, or a size is not positive.

    Examples
    --------
    >>> points_to_input([[10, 20]], (100, 50), (1024, 512)).tolist()
    [[102.4000015258789, 204.8000030517578]]
    """
    return _scaled(points_xy, original_size_hw, input_size_hw, 2, "points_xy")


def points_to_original(
    points_xy: npt.ArrayLike, original_size_hw: SizeHW, input_size_hw: SizeHW
) -> npt.NDArray[np.float32]:
    """Scale points from the encoder's input back to the original image.

    Parameters
    ----------
    points_xy : array_like of shape (..., 2)
        Pixels of the input.
    original_size_hw, input_size_hw : (int, int)
        Height and width of the original image and of the resized input before padding.

    Returns
    -------
    ndarray of shape (..., 2), float32
        Pixels of the original image.

    Raises
    ------
    ValueError
        If the last axis does not have length 2, or a size is not positive.
    """
    return _scaled(points_xy, input_size_hw, original_size_hw, 2, "points_xy")


def boxes_to_input(
    boxes_xyxy: npt.ArrayLike, original_size_hw: SizeHW, input_size_hw: SizeHW
) -> npt.NDArray[np.float32]:
    """Scale boxes from the original image to the encoder's input.

    Parameters
    ----------
    boxes_xyxy : array_like of shape (..., 4)
        Left, top, right, bottom in pixels of the original image.
    original_size_hw, input_size_hw : (int, int)
        Height and width of the original image and of the resized input before padding.

    Returns
    -------
    ndarray of shape (..., 4), float32
        Pixels of the input.

    Raises
    ------
    ValueError
        If the last axis does not have length 4, or a size is not positive.
    """
    return _scaled(boxes_xyxy, original_size_hw, input_size_hw, 4, "boxes_xyxy")


def boxes_to_original(
    boxes_xyxy: npt.ArrayLike, original_size_hw: SizeHW, input_size_hw: SizeHW
) -> npt.NDArray[np.float32]:
    """Scale boxes from the encoder's input back to the original image.

    Parameters
    ----------
    boxes_xyxy : array_like of shape (..., 4)
        Left, top, right, bottom in pixels of the input.
    original_size_hw, input_size_hw : (int, int)
        Height and width of the original image and of the resized input before padding.

    Returns
    -------
    ndarray of shape (..., 4), float32
        Pixels of the original image.

    Raises
    ------
    ValueError
        If the last axis does not have length 4, or a size is not positive.
    """
    return _scaled(boxes_xyxy, input_size_hw, original_size_hw, 4, "boxes_xyxy")


def _scaled(
    coordinates: npt.ArrayLike, from_size_hw: SizeHW, to_size_hw: SizeHW, length: int, name: str
) -> npt.NDArray[np.float32]:
    """Scale x, y pairs between two sizes, in float64, and round once."""
    values: npt.NDArray[Any] = np.asarray(coordinates, np.float64)
    if values.ndim == 0 or values.shape[-1] != length:
        raise ValueError(f"{name} must have shape (..., {length}), got {values.shape}")
    if min(*from_size_hw, *to_size_hw) < 1:
        raise ValueError(
            f"sizes must be positive, got {tuple(from_size_hw)} and {tuple(to_size_hw)}"
        )
    scale_xy = np.array([to_size_hw[1] / from_size_hw[1], to_size_hw[0] / from_size_hw[0]])
    scaled: npt.NDArray[np.float32] = (values * np.tile(scale_xy, length // 2)).astype(np.float32)
    return scaled
