"""A mask kept for little memory: the window that it fills, one bit a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.io.rle import decode_mask, encode_mask
from sam_plugins.model.io.windows import tight_window
from sam_plugins.napari_plugin.session.planes import Window

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaskCrop:
    """A mask of a plane: what is inside ``window``, one bit a pixel; nothing lies outside.

    Equal masks are equal values, because the window is as tight as can be.

    Parameters
    ----------
    window : Window
    bits : bytes
        Of the window, row after row, as :func:`numpy.packbits` makes them.
    """

    window: Window
    bits: bytes

    @classmethod
    def of(cls, mask: BoolArray, offset_yx: tuple[int, int] = (0, 0)) -> MaskCrop:
        """Return a mask, or a part of one that begins at a row and a column, as a tight crop.

        Examples
        --------
        >>> crop = MaskCrop.of(np.array([[0, 0, 0], [0, 1, 1]], bool), (10, 20))
        >>> crop.window, crop.area
        (Window(top=11, left=21, bottom=12, right=23), 2)
        """
        inside = tight_window(mask)
        if inside is None:
            return cls(Window(0, 0, 0, 0), b"")
        rows, columns = inside
        y, x = offset_yx
        return cls(
            Window(rows.start + y, columns.start + x, rows.stop + y, columns.stop + x),
            np.packbits(mask[inside]).tobytes(),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is inside."""
        return not self.bits

    @property
    def mask(self) -> BoolArray:
        """The mask within its window."""
        height, width = self.window.shape
        packed = np.frombuffer(self.bits, np.uint8)
        return np.unpackbits(packed, count=height * width).reshape(height, width).view(np.bool_)

    @property
    def area(self) -> int:
        """Number of pixels inside."""
        return int(np.count_nonzero(self.mask))

    def on(self, window: Window) -> BoolArray:
        """Return what of it lies in another window, as a mask of that window's shape."""
        drawn = np.zeros(window.shape, bool)
        shared = Window(
            max(self.window.top, window.top),
            max(self.window.left, window.left),
            min(self.window.bottom, window.bottom),
            min(self.window.right, window.right),
        )
        if min(shared.shape) > 0:
            drawn[_relative(shared, window)] = self.mask[_relative(shared, self.window)]
        return drawn

    def contains(self, x: float, y: float) -> bool:
        """Return whether a point, in pixels of the plane, is inside."""
        row, column = round(y) - self.window.top, round(x) - self.window.left
        height, width = self.window.shape
        return 0 <= row < height and 0 <= column < width and bool(self.mask[row, column])

    @cached_property
    def document(self) -> dict[str, Any]:
        """The mask for JSON: the corner of its window, and a COCO RLE of what is in it."""
        mask = self.mask
        return {
            "offset_yx": [self.window.top, self.window.left],
            "rle": encode_mask(mask),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> MaskCrop:
        """Return the mask of :attr:`document`.

        Raises
        ------
        ValueError, KeyError
            If it is none.
        """
        top, left = (int(value) for value in document["offset_yx"])
        return cls.of(decode_mask(document["rle"]), (top, left))


def _relative(inner: Window, outer: Window) -> tuple[slice, slice]:
    """Return the rows and columns of a window within another one."""
    return (
        slice(inner.top - outer.top, inner.bottom - outer.top),
        slice(inner.left - outer.left, inner.right - outer.left),
    )
