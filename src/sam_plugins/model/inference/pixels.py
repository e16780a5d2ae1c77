"""What people pass as the pixels of a picture, as one thing that can be sliced."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.io.modes import picture_pixels


def as_sliceable(image: npt.ArrayLike | SliceableArray) -> SliceableArray:
    """Return the image with a NumPy dtype and a shape that can be a picture, without reading it."""
    if isinstance(image, str | bytes | os.PathLike):
        name = os.fsdecode(image)
        raise TypeError(
            f"expected the pixels of a picture, got the name of a file, {name!r}; read the file "
            f"first: sam_plugins.read_image({name!r})"
        )
    if isinstance(image, Image.Image):
        image = picture_pixels(image)
    is_sliceable = hasattr(image, "shape") and isinstance(getattr(image, "dtype", None), np.dtype)
    array = _without_mask(cast("SliceableArray", image if is_sliceable else _as_array(image)))
    shape = tuple(int(n) for n in array.shape)
    if len(shape) not in (2, 3):
        raise UnusableImageError(
            f"expected one picture of shape (H, W), (H, W, C) or (C, H, W), got shape {shape}; "
            "pass one plane of a stack at a time"
        )
    if 0 in shape:
        raise UnusableImageError(
            f"expected a picture with pixels, got shape {shape}; check how it was cropped"
        )
    if array.dtype.kind not in "buif":
        raise UnusableImageError(
            f"expected boolean, integer or floating-point pixels, got {array.dtype}; "
            "convert it first (of complex values take the magnitude or the phase)"
        )
    return array


def _as_array(image: object) -> npt.NDArray[Any]:
    """Return nested lists, or whatever else NumPy understands, as an array."""
    tensor = _as_tensor(image)
    if tensor is not None:
        return tensor
    if image is None or isinstance(image, dict | set | int | float):
        raise TypeError(f"expected the pixels of a picture, got {type(image).__name__}")
    try:
        return np.asarray(image)
    except ValueError as error:
        raise UnusableImageError(
            f"expected an array, or rows of equal length, got a {type(image).__name__} that NumPy "
            f"refuses: {error}"
        ) from error


def _as_tensor(image: object) -> npt.NDArray[Any] | None:
    """Return a tensor of PyTorch, which may be on a GPU, carry gradients or be a bfloat16."""
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    if torch is None or not isinstance(image, torch.Tensor):
        return None
    tensor = image.detach().cpu()
    array: npt.NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _without_mask(image: SliceableArray) -> SliceableArray:
    """Return a masked array without its mask, which must hide nothing."""
    if not isinstance(image, np.ma.MaskedArray):
        return image
    hidden = int(np.count_nonzero(image.mask))
    if hidden:
        raise UnusableImageError(
            f"expected pixels that all have a value, got a masked array with {hidden} masked; give "
            "them one, such as image.filled(0), or leave them out of the contrast with "
            "image.astype(float).filled(np.nan)"
        )
    shown: SliceableArray = image.data
    return shown
