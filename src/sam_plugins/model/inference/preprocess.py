"""From an 8-bit RGB picture to the tensor that an image encoder takes.

The steps are SAM's (Kirillov et al. 2023, appendix A): resize by the longer side, subtract the
mean, divide by the deviation, pad with zeros at the bottom and the right. Resizing is Pillow's
antialiased bilinear filter on 8-bit values, because that is what the official models saw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.networks.config import Preprocessing

__all__ = [
    "check_rgb",
    "normalise_and_pad",
    "padded_size_hw",
    "prepare_input",
    "resize_rgb",
    "resized_size_hw",
]


def resized_size_hw(size_hw: SizeHW, preprocessing: Preprocessing) -> SizeHW:
    """Return the size to which a picture is resized, before padding.

    Parameters
    ----------
    size_hw : (int, int)
        Height and width of the picture in pixels.
    preprocessing : Preprocessing
        The longer side ends within ``min_long_side`` and ``max_long_side``, unless the picture
        would have to be enlarged by more than ``max_enlargement``.

    Returns
    -------
    (int, int)
        Height and width; halves are rounded up as in segment_anything, and neither side vanishes.

    Raises
    ------
    UnusableImageError
        If a side is not positive.

    Examples
    --------
    >>> resized_size_hw((1200, 1800), Preprocessing())
    (683, 1024)
    """
    height, width = size_hw
    if min(height, width) < 1:
        raise UnusableImageError(
            f"expected a picture with pixels, got a size of {height} x {width}"
        )
    longer = max(height, width)
    target: float = min(max(longer, preprocessing.min_long_side), preprocessing.max_long_side)
    target = min(target, longer * preprocessing.max_enlargement)
    scale = target * 1.0 / longer
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def padded_size_hw(input_size_hw: SizeHW, preprocessing: Preprocessing) -> SizeHW:
    """Return the size of the encoder's input after padding: SAM's square, or the next multiple."""
    if preprocessing.pad_to == "square":
        return preprocessing.max_long_side, preprocessing.max_long_side
    multiple = preprocessing.pad_to
    height, width = (-(-side // multiple) * multiple for side in input_size_hw)
    return height, width


def resize_rgb(rgb: npt.NDArray[np.uint8], size_hw: SizeHW) -> npt.NDArray[np.uint8]:
    """Resize an 8-bit RGB picture with Pillow's bilinear filter, which averages when it reduces.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        As :func:`~sam_plugins.to_rgb` returns it.
    size_hw : (int, int)
        New height and width.

    Raises
    ------
    ValueError
        If ``rgb`` is not an 8-bit RGB picture.
    """
    check_rgb(rgb)
    if rgb.shape[:2] == tuple(size_hw):
        return rgb
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR))


def normalise_and_pad(rgb: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Subtract the mean, divide by the deviation and pad with zeros.

    Parameters
    ----------
    rgb : Tensor of shape (B, 3, h, w)
        RGB values from 0 to 255, already resized.
    preprocessing : Preprocessing
        Mean, deviation and padding.

    Returns
    -------
    Tensor of shape (B, 3, H, W), float32
        Padded at the bottom and the right, after normalisation.

    Raises
    ------
    ValueError
        If the picture is larger than the square that it has to be padded to.
    """
    height, width = int(rgb.shape[-2]), int(rgb.shape[-1])
    full_height, full_width = padded_size_hw((height, width), preprocessing)
    if height > full_height or width > full_width:
        raise ValueError(
            f"rgb must fit into {full_height} x {full_width}, got {height} x {width}; "
            "resize it first"
        )
    mean = torch.tensor(preprocessing.pixel_mean, dtype=torch.float32, device=rgb.device)
    std = torch.tensor(preprocessing.pixel_std, dtype=torch.float32, device=rgb.device)
    normalised = (rgb.to(torch.float32) - mean[:, None, None]) / std[:, None, None]
    return torch.nn.functional.pad(normalised, (0, full_width - width, 0, full_height - height))


def prepare_input(
    rgb: npt.NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[Tensor, SizeHW]:
    """Turn an 8-bit RGB picture into the input of an image encoder.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        What the model sees, from :func:`~sam_plugins.to_rgb`; an ordinary photograph may be passed
        as it is.
    preprocessing : Preprocessing
        Of the model.

    Returns
    -------
    input_tensor : Tensor of shape (1, 3, Hp, Wp), float32
        Normalised and padded, on the CPU. ``Hp, Wp`` is the padded size.
    input_size_hw : (int, int)
        Height and width after resizing and before padding, as the functions of
        :mod:`~sam_plugins.model.inference.coordinates` need it.

    Raises
    ------
    ValueError
        If ``rgb`` is not an 8-bit RGB picture.
    UnusableImageError
        If it has no pixels.
    """
    check_rgb(rgb)
    input_size_hw = resized_size_hw((rgb.shape[0], rgb.shape[1]), preprocessing)
    # a copy: torch warns about arrays that it may not write to
    resized = torch.from_numpy(np.array(resize_rgb(rgb, input_size_hw)))
    return normalise_and_pad(resized.permute(2, 0, 1)[None], preprocessing), input_size_hw


def check_rgb(rgb: npt.NDArray[np.uint8]) -> None:
    """Refuse anything but an 8-bit RGB picture of shape (H, W, 3).

    Raises
    ------
    ValueError
        If the shape or the type is another.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(
            f"rgb must be of shape (H, W, 3) and type uint8, got {rgb.shape} and {rgb.dtype}; "
            "to_rgb makes one"
        )
