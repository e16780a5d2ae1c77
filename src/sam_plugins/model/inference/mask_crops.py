"""What CLIP sees of a mask: a square crop around it, with or without what lies beside it.

After Kirillov et al. 2023, appendix D.5: the box of the mask, made larger and square, so that the
picture keeps its proportions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.windows import Window, tight_window

__all__ = ["WindowMask", "crop_object"]

RgbArray = npt.NDArray[np.uint8]


def crop_object(
    rgb: RgbArray,
    found: WindowMask,
    size: int,
    *,
    scale: float = 1.0,
    is_masked: bool = False,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> RgbArray:
    """Cut out the square around an object, at the size that an encoder takes.

    Parameters
    ----------
    rgb : ndarray of shape (H, W, 3), uint8
        The picture.
    found : WindowMask
        The object: rows and columns of the picture, and the mask there; not empty.
    size : int
        S, pixels of a side of the crop.
    scale : float
        Side of the square over the longer side of the object's box; 1 or more.
    is_masked : bool
        Whether all but the object is replaced by ``fill``.
    fill : (int, int, int)
        Colour beyond the picture, and beside the object where it is masked.

    Returns
    -------
    ndarray of shape (S, S, 3), uint8

    Raises
    ------
    ValueError
        If the mask is empty, or ``size`` or ``scale`` is below 1.

    Examples
    --------
    >>> picture = np.full((4, 6, 3), 9, np.uint8)
    >>> mask = WindowMask((slice(1, 3), slice(2, 4)), np.array([[True, False], [True, True]]))
    >>> crop_object(picture, mask, 2, is_masked=True)[..., 0].tolist()
    [[9, 0], [9, 9]]
    """
    if size < 1 or not scale >= 1:
        raise ValueError(f"size and scale must be 1 or more, got {size} and {scale}")
    window, mask = found
    tight = tight_window(mask)
    if tight is None:
        raise ValueError("the mask to crop must hold at least one pixel, got an empty one")
    (top, bottom), (left, right) = (
        (outer.start + inner.start, outer.start + inner.stop)
        for outer, inner in zip(window, tight, strict=True)
    )
    side = max(1, round(scale * max(bottom - top, right - left)))
    y0, x0 = (top + bottom - side) // 2, (left + right - side) // 2
    height, width = rgb.shape[:2]
    inside = (
        slice(max(0, y0), min(height, y0 + side)),
        slice(max(0, x0), min(width, x0 + side)),
    )
    there = tuple(slice(s.start - o, s.stop - o) for s, o in zip(inside, (y0, x0), strict=True))
    square = np.empty((side, side, 3), np.uint8)
    square[:] = fill
    square[there] = rgb[inside]
    if is_masked:
        square[~_placed(mask, window, (y0, x0), side)] = fill
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(resized)


def _placed(
    mask: npt.NDArray[np.bool_], window: Window, corner_yx: tuple[int, int], side: int
) -> npt.NDArray[np.bool_]:
    """Return a mask on the pixels of a square, whose first one lies at the corner."""
    placed = np.zeros((side, side), bool)
    rows, columns = np.nonzero(mask)
    placed[rows + window[0].start - corner_yx[0], columns + window[1].start - corner_yx[1]] = True
    return placed
