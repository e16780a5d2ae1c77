"""Functions on masks that programs import from ``segment_anything.utils.amg``.

What its mask generator hands from one of its own steps to the next (``MaskData``, crops and back)
has no counterpart here: ours goes another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.model.inference.checks import count
from sam_plugins.model.inference.compat.crops import layer_grids
from sam_plugins.model.inference.compat.measure import boxes_of
from sam_plugins.model.inference.compat.regions import largest_region, small_regions
from sam_plugins.model.io.rle import compress, decode_mask, encode_mask, mask_area


def area_from_rle(rle: Mapping[str, Any]) -> int:
    """Return the pixels of a mask in COCO's run-length encoding, compressed or not.

    Raises
    ------
    ValueError
        If the keys are missing, or the runs do not add up to the size.

    Examples
    --------
    >>> area_from_rle({"size": [2, 2], "counts": [1, 2, 1]})
    2
    """
    return mask_area(rle)


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Return the boxes of masks.

    Parameters
    ----------
    masks : Tensor of shape (..., H, W), bool or integer
        On any device; not 0 inside.

    Returns
    -------
    Tensor of shape (..., 4), int64
        First column, first row, last column, last row; zeros for empty masks. On the same device.

    Raises
    ------
    ValueError
        If ``masks`` has fewer than two axes.
    TypeError
        If its values are no masks.

    Examples
    --------
    >>> batched_mask_to_box(torch.tensor([[False, True, True], [False, False, True]])).tolist()
    [1, 0, 2, 1]
    """
    inside = _inside(masks)
    if inside.numel() == 0:
        return torch.zeros((*inside.shape[:-2], 4), dtype=torch.int64, device=inside.device)
    boxes = torch.from_numpy(boxes_of(inside.reshape(-1, *inside.shape[-2:])))
    return boxes.reshape(*inside.shape[:-2], 4).to(inside.device)


def build_all_layer_point_grids(
    n_per_side: int, n_layers: int, scale_per_layer: int
) -> list[npt.NDArray[np.float64]]:
    """Return the grid of points of the picture, and one for each layer of crops.

    Parameters
    ----------
    n_per_side : int
        Points along each side of the picture.
    n_layers : int
        Layers of crops.
    scale_per_layer : int
        From one layer to the next there are so many times fewer points along a side.

    Returns
    -------
    list of ndarray of shape (n, 2), float64
        As :func:`build_point_grid` gives them.

    Raises
    ------
    ValueError
        If a layer would have no points.
    """
    return layer_grids(count("n_per_side", n_per_side), n_layers, scale_per_layer)


def coco_encode_rle(uncompressed_rle: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run-length encoding with COCO's string, ready for JSON.

    Parameters
    ----------
    uncompressed_rle : mapping
        ``{"size": [height, width], "counts": list of int}``.

    Raises
    ------
    ValueError
        If the keys are missing, or the runs do not add up to the size.

    Examples
    --------
    >>> coco_encode_rle({"size": [2, 2], "counts": [1, 2, 1]})
    {'size': [2, 2], 'counts': '121'}
    """
    return compress(uncompressed_rle)


def mask_to_rle_pytorch(tensor: Tensor) -> list[dict[str, Any]]:
    """Return masks in COCO's run-length encoding, uncompressed.

    Parameters
    ----------
    tensor : Tensor of shape (B, H, W), bool or integer
        On any device; not 0 inside.

    Returns
    -------
    list of dict
        ``{"size": [height, width], "counts": list of int}`` for each mask.

    Raises
    ------
    ValueError
        If ``tensor`` has not three axes.
    TypeError
        If its values are no masks.

    Examples
    --------
    >>> mask_to_rle_pytorch(torch.tensor([[[False, True], [False, True]]]))
    [{'size': [2, 2], 'counts': [2, 2]}]
    """
    if tensor.ndim != 3:
        raise ValueError(f"masks must have shape (B, H, W), got {tuple(tensor.shape)}")
    masks = _inside(tensor).cpu().numpy()
    return [encode_mask(mask, compressed=False) for mask in masks]


def remove_small_regions(
    mask: npt.NDArray[Any], area_thresh: float, mode: str
) -> tuple[npt.NDArray[Any], bool]:
    """Fill small holes of a mask, or drop its small islands; diagonal neighbours are connected.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool or integer
        Not 0 inside.
    area_thresh : float
        Regions of fewer pixels are small. Background at the border of the picture is a hole, too.
    mode : {"holes", "islands"}
        When all islands are small the largest one stays; of equal ones, the one that begins in the
        higher row.

    Returns
    -------
    mask : ndarray of shape (H, W)
        The given one if nothing changed, else bool.
    changed : bool

    Raises
    ------
    ValueError
        If ``mask`` has not two axes, or ``mode`` is another.
    TypeError
        If the values are no mask.

    Examples
    --------
    >>> mask = np.array([[True, False, True, True]])
    >>> remove_small_regions(mask, 2, "holes")
    (array([[ True,  True,  True,  True]]), True)
    >>> remove_small_regions(mask, 2, "islands")
    (array([[False, False,  True,  True]]), True)
    """
    if mode not in {"holes", "islands"}:
        raise ValueError(f"mode must be 'holes' or 'islands', got {mode!r}")
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape (H, W), got {mask.shape}")
    if mask.dtype.kind not in "biu":
        raise TypeError(_no_mask(mask.dtype))
    inside = mask != 0
    small = small_regions(inside if mode == "islands" else ~inside, area_thresh)
    if not small.any():
        return mask, False
    kept = inside ^ small
    return (kept if kept.any() else largest_region(inside)), True


def rle_to_mask(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return the mask of COCO's run-length encoding, compressed or not.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If the keys are missing, or the runs do not add up to the size.

    Examples
    --------
    >>> rle_to_mask({"size": [2, 2], "counts": [2, 2]}).tolist()
    [[False, True], [False, True]]
    """
    return decode_mask(rle)


def _inside(masks: Tensor) -> Tensor:
    """Return masks as bool."""
    if masks.ndim < 2:
        raise ValueError(f"masks must have shape (..., H, W), got {tuple(masks.shape)}")
    if masks.is_floating_point() or masks.is_complex():
        raise TypeError(_no_mask(masks.dtype))
    return masks != 0


def _no_mask(dtype: object) -> str:
    """Return what is said to values that are no mask."""
    return (
        f"a mask must be of type bool, or of whole numbers that are not 0 inside, got {dtype}; "
        "of logits, those above model.mask_threshold are inside"
    )
