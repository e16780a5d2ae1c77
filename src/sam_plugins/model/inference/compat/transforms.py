"""From a picture and its coordinates to what a network takes, under segment_anything's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.preprocess import resized_size_hw
from sam_plugins.model.networks.config import Preprocessing

_RESIZABLE = ("uint8", "int16", "int32", "float32")


class ResizeLongestSide:
    """Resize pictures so that the longer side has a given length, and coordinates with them.

    Parameters
    ----------
    target_length : int
        Pixels of the longer side; 1024 for the official models.

    Examples
    --------
    >>> ResizeLongestSide(1024).apply_coords(np.array([[10, 20]]), (50, 100)).tolist()
    [[102.4, 204.8]]
    """

    def __init__(self, target_length: int) -> None:
        if target_length < 1:
            raise ValueError(f"target_length must be 1 or more, got {target_length}")
        self.target_length = target_length

    def resized_size(self, original_size: Sequence[int]) -> SizeHW:
        """Return the height and width of a picture after resizing."""
        height, width = _checked_size(original_size)
        return self.get_preprocess_shape(height, width, self.target_length)

    def apply_image(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Resize a picture with Pillow's antialiased bilinear filter, as the models saw it.

        Parameters
        ----------
        image : ndarray of shape (H, W, C) or (H, W)
            uint8 with up to 4 channels, or one channel of another type.

        Returns
        -------
        ndarray of shape (h, w, C) or (h, w)

        Raises
        ------
        ValueError
            If the shape is no picture's.
        TypeError
            If its type cannot be resized.
        """
        if image.ndim not in {2, 3} or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
            raise ValueError(
                f"image must have shape (H, W, C) with up to 4 channels, or (H, W), got "
                f"{image.shape}"
            )
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if str(image.dtype) not in _RESIZABLE[: 1 if image.ndim == 3 else None]:
            raise TypeError(
                f"image must be of type uint8 (0 to 255), got {image.dtype}; scale and convert it"
            )
        height, width = self.resized_size(image.shape[:2])
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.array(picture.resize((width, height), Image.Resampling.BILINEAR))

    def apply_coords(
        self, coords: npt.NDArray[Any], original_size: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return pixels of a picture as pixels of the resized one.

        Parameters
        ----------
        coords : array_like of shape (..., 2)
            x before y.
        original_size : (int, int)
            Height and width of the picture.

        Returns
        -------
        ndarray of shape (..., 2), float64

        Raises
        ------
        ValueError
            If ``original_size`` is no size.
        """
        scaled: npt.NDArray[np.float64] = np.multiply(
            coords, self._scale_xy(original_size), dtype=np.float64
        )
        return scaled

    def apply_boxes(
        self, boxes: npt.NDArray[Any], original_size: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return boxes of a picture as boxes of the resized one.

        Parameters
        ----------
        boxes : array_like of shape (B, 4)
            Left, top, right, bottom.
        original_size : (int, int)
            Height and width of the picture.

        Returns
        -------
        ndarray of shape (B, 4), float64

        Raises
        ------
        ValueError
            If ``original_size`` is no size.
        """
        corners = np.asarray(boxes).reshape(-1, 2, 2)
        return self.apply_coords(corners, original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize pictures on their device, with PyTorch's antialiased bilinear filter.

        The models saw pictures that were resized with :meth:`apply_image`, which differs a little.

        Parameters
        ----------
        image : Tensor of shape (B, C, H, W), floating
            On any device, of any range.

        Returns
        -------
        Tensor of shape (B, C, h, w), of the same type, on the same device

        Raises
        ------
        ValueError
            If the shape is another, or a picture has no pixels.
        """
        if image.ndim != 4:
            raise ValueError(f"image must have shape (B, C, H, W), got {tuple(image.shape)}")
        return torch.nn.functional.interpolate(
            image,
            size=self.resized_size(image.shape[-2:]),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )

    def apply_coords_torch(self, coords: Tensor, original_size: Sequence[int]) -> Tensor:
        """Do :meth:`apply_coords` on a tensor, in float32."""
        return coords.to(torch.float32) * coords.new_tensor(
            self._scale_xy(original_size), dtype=torch.float32
        )

    def apply_boxes_torch(self, boxes: Tensor, original_size: Sequence[int]) -> Tensor:
        """Do :meth:`apply_boxes` on a tensor, in float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> SizeHW:
        """Return height and width after resizing; halves are rounded up.

        Examples
        --------
        >>> ResizeLongestSide.get_preprocess_shape(1200, 1800, 1024)
        (683, 1024)
        """
        scale = long_side_length / max(oldh, oldw)
        return int(oldh * scale + 0.5), int(oldw * scale + 0.5)

    def _scale_xy(self, original_size: Sequence[int]) -> tuple[float, float]:
        """Return how much longer x and y become."""
        height, width = _checked_size(original_size)
        new_height, new_width = self.resized_size(original_size)
        return new_width / width, new_height / height


class ModelResize(ResizeLongestSide):
    """Resize as one model wants it: for the official ones the longer side fills the input.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of the model.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing.max_long_side)
        self.preprocessing = preprocessing

    def resized_size(self, original_size: Sequence[int]) -> SizeHW:
        """Return the height and width of a picture after resizing."""
        return resized_size_hw(_checked_size(original_size), self.preprocessing)


def _checked_size(original_size: Sequence[int]) -> SizeHW:
    """Return a height and a width."""
    if len(original_size) != 2 or min(original_size) < 1:
        raise ValueError(
            "original_size must be the height and width of the picture, such as image.shape[:2], "
            f"got {tuple(original_size)}"
        )
    return int(original_size[0]), int(original_size[1])
