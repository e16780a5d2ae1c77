"""What Pillow's pictures hold: palettes, inks and alpha made into intensities or RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.model.io.opened import decoding

_AS_THEY_ARE = ("1", "L", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def picture_pixels(picture: Image.Image) -> npt.NDArray[Any]:
    """Return the pixels of a picture that was opened or made with Pillow.

    Parameters
    ----------
    picture : PIL.Image.Image
        Of any mode. Palettes, CMYK, YCbCr, Lab and HSV become RGB; the alpha of a grey picture is
        dropped. The pixels stay where they are: an EXIF orientation is not applied.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, S)

    Raises
    ------
    UnreadableImageError
        If the picture is read from a damaged file only now.
    """
    with decoding(Path(getattr(picture, "filename", "") or "the picture")):
        return np.asarray(_plain(picture))


def _plain(picture: Image.Image) -> Image.Image:
    """Return a picture of a mode that NumPy understands as intensities or RGB."""
    if picture.mode in _AS_THEY_ARE:
        return picture
    if picture.mode in {"LA", "La"}:
        return picture.getchannel("L")
    has_alpha = picture.mode in {"PA", "RGBa"} or "transparency" in picture.info
    return picture.convert("RGBA" if has_alpha else "RGB")
