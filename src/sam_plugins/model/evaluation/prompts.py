"""The prompts that an evaluation asks with: one centre point, or one tight box, per object.

The centre is the pixel farthest from the object's border, where the distance transform inside the
object is largest (SAM, Kirillov et al. 2023, section 7.1 and appendix D.1; RITM, Sofiiuk et al.
2021, section 3; both count the border of the picture as border). Where they leave open which of
several such pixels is meant, it is the one nearest to the centre of mass here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.io.windows import tight_window

BoolArray = NDArray[np.bool_]

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class TrueObject:
    """One annotated object: its mask in the window that holds it, and what asks for it.

    Attributes
    ----------
    object_id : int
        Its label.
    window : (slice, slice)
        Rows and columns of the picture around the object, nothing more.
    mask : ndarray of shape (rows, columns), bool
        The object within the window.
    point_xy : (int, int)
        Centre point, pixels of the picture.
    box_xyxy : (int, int, int, int)
        Centres of the outermost pixels; a single pixel has a box of no width.
    """

    object_id: int
    window: tuple[slice, slice]
    mask: BoolArray
    point_xy: tuple[int, int]
    box_xyxy: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Pixels of the object."""
        return int(np.count_nonzero(self.mask))


def centre_point_xy(mask: BoolArray) -> tuple[int, int]:
    """Return the pixel of a mask that lies farthest from its border.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        The object. Of several pieces (8-connected), the largest counts, the first in reading order
        if two are as large.

    Returns
    -------
    (int, int)
        x and y of a pixel inside the mask. Of pixels that lie equally far, the nearest to their
        piece's centre of mass; then the first in reading order.

    Raises
    ------
    ValueError
        If the mask is empty or has not two axes.

    Examples
    --------
    >>> centre_point_xy(np.ones((3, 7), bool))
    (3, 1)
    """
    if mask.ndim != 2 or not mask.any():
        raise ValueError(
            f"mask must have shape (H, W) and hold at least one pixel, got shape {mask.shape} "
            f"with {np.count_nonzero(mask)}"
        )
    pieces, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    piece = mask
    if count > 1:
        piece = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    distance = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    # The distances are roots of whole numbers: equal ones are equal to the last bit.
    rows, columns = np.nonzero(distance == distance.max())
    if rows.size > 1:
        all_rows, all_columns = np.nonzero(piece)
        off = (rows - all_rows.mean()) ** 2 + (columns - all_columns.mean()) ** 2
        nearest = int(np.argmin(off.round(9)))
        rows, columns = rows[nearest:], columns[nearest:]
    return int(columns[0]), int(rows[0])


def tight_box_xyxy(mask: BoolArray) -> tuple[int, int, int, int]:
    """Return the centres of the leftmost, topmost, rightmost and bottommost pixels of a mask.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
        The object.

    Raises
    ------
    ValueError
        If the mask is empty or has not two axes.

    Examples
    --------
    >>> tight_box_xyxy(np.array([[False, True, True], [False, True, False]]))
    (1, 0, 2, 1)
    """
    inside = tight_window(mask) if mask.ndim == 2 else None
    if inside is None:
        raise ValueError(
            f"mask must have shape (H, W) and hold at least one pixel, got shape {mask.shape} "
            f"with {np.count_nonzero(mask)}"
        )
    rows, columns = inside
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


def true_objects(
    labels: NDArray[Any], whole_masks: Mapping[int, BoolArray] | None = None
) -> Iterator[TrueObject]:
    """Yield every object of a label image with its prompts, by ascending label.

    Parameters
    ----------
    labels : ndarray of shape (H, W), integer
        Label image, 0 is background.
    whole_masks : mapping of int to ndarray of shape (H, W), bool, optional
        Whole masks of objects that others cover in part; each replaces the visible one. Every one
        is asked for once, when its turn comes.

    Yields
    ------
    TrueObject
    """
    whole_masks = whole_masks or {}
    compact, ids = _compact_labels(labels)
    for index, window in enumerate(ndimage.find_objects(compact)):
        object_id = int(ids[index])
        if object_id in whole_masks:
            whole = whole_masks[object_id]
            x0, y0, x1, y1 = tight_box_xyxy(whole)
            window = slice(y0, y1 + 1), slice(x0, x1 + 1)
            mask = whole[window]
        else:
            mask = compact[window] == index + 1
        top, left = window[0].start, window[1].start
        x, y = centre_point_xy(mask)
        box = (left, top, window[1].stop - 1, window[0].stop - 1)
        yield TrueObject(object_id, window, mask, (left + x, top + y), box)


def _compact_labels(labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels numbered 1 to n without gaps, and the id of each."""
    found, inverse = np.unique(labels, return_inverse=True)
    ids = found[found > 0].astype(np.int64)
    compact = inverse.reshape(labels.shape) + (1 if found.size and found[0] > 0 else 0)
    return compact.astype(np.int32), ids
