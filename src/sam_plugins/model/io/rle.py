"""COCO's run-length encoding of masks, in NumPy.

The format (https://cocodataset.org/#format-results): lengths of runs of 0 and 1 in turn, beginning
with 0, down the columns. The compressed form writes each length, from the fourth on as the
difference to the length two before, as groups of 5 bits in printable characters from ``0`` on,
lowest bits first; bit 6 marks that another group follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_GROUPS = 13  # of 5 bits, for a 64-bit integer
_FIRST_CHARACTER = 48


def encode_mask(
    mask: npt.NDArray[np.bool_],
    *,
    compressed: bool = True,
    offset_yx: tuple[int, int] = (0, 0),
    size_hw: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return a mask as COCO RLE.

    Parameters
    ----------
    mask : ndarray of shape (h, w), bool
        The mask, or a crop around the object: encoding then costs as much as the crop.
    compressed : bool
        Whether ``counts`` is COCO's string or a list of int.
    offset_yx : (int, int)
        Row and column of the crop's first pixel in the whole picture.
    size_hw : (int, int), optional
        Size of the whole picture; that of ``mask`` by default.

    Returns
    -------
    dict
        ``{"size": [height, width], "counts": str or list of int}``, ready for JSON.

    Raises
    ------
    ValueError
        If the mask has not two axes or does not fit into the picture.

    Examples
    --------
    >>> encode_mask(np.array([[0, 1], [0, 1]], bool), compressed=False)
    {'size': [2, 2], 'counts': [2, 2]}
    """
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape (H, W), got {mask.shape}")
    height, width = mask.shape if size_hw is None else size_hw
    top, left = offset_yx
    if top < 0 or left < 0 or top + mask.shape[0] > height or left + mask.shape[1] > width:
        raise ValueError(
            f"a mask of shape {mask.shape} at {tuple(offset_yx)} must lie within {(height, width)}"
        )
    counts = _counts(mask, (top, left), (height, width))
    return {
        "size": [int(height), int(width)],
        "counts": _to_string(counts) if compressed else counts.tolist(),
    }


def decode_mask(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return the mask of a COCO RLE, compressed or not.

    Parameters
    ----------
    rle : mapping
        ``{"size": [height, width], "counts": str, bytes or list of int}``.

    Returns
    -------
    ndarray of shape (H, W), bool

    Raises
    ------
    ValueError
        If the keys are missing, or the runs do not add up to the size.

    Examples
    --------
    >>> decode_mask({"size": [2, 2], "counts": [2, 2]}).astype(int)
    array([[0, 1],
           [0, 1]])
    """
    (height, width), lengths = _runs_of(rle)
    flat = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def compress(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked COCO RLE with COCO's string, ready for JSON; equal masks have equal ones.

    Raises
    ------
    ValueError
        As :func:`decode_mask`.

    Examples
    --------
    >>> compress({"size": [2, 2], "counts": [1, 0, 1, 2]})
    {'size': [2, 2], 'counts': '22'}
    """
    (height, width), lengths = _runs_of(rle)
    if lengths.size > 1 and not lengths[1:].all():  # the same mask can be said with empty runs
        return encode_mask(decode_mask(rle))
    return {"size": [height, width], "counts": _to_string(lengths)}


def mask_area(rle: Mapping[str, Any]) -> int:
    """Return the number of pixels of a COCO RLE without drawing it.

    Raises
    ------
    ValueError
        As :func:`decode_mask`.

    Examples
    --------
    >>> mask_area({"size": [2, 2], "counts": [1, 2, 1]})
    2
    """
    return int(_runs_of(rle)[1][1::2].sum())


def _runs_of(rle: Mapping[str, Any]) -> tuple[tuple[int, int], npt.NDArray[np.int64]]:
    """Return the size of the picture, and the lengths of runs, which add up to it."""
    try:
        height, width = (int(n) for n in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a COCO RLE must have 'size' [height, width] and 'counts'") from error
    lengths = (
        _from_string(counts)
        if isinstance(counts, str | bytes)
        else np.asarray(counts, np.int64).ravel()
    )
    if (lengths < 0).any() or int(lengths.sum()) != height * width:
        raise ValueError(
            f"the runs of a COCO RLE must add up to {height} x {width} = {height * width}, "
            f"got {int(lengths.sum())}; the text was cut or changed"
        )
    return (height, width), lengths


def _counts(
    mask: npt.NDArray[np.bool_], offset_yx: tuple[int, int], size_hw: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Return the lengths of the runs in the whole picture."""
    height, width = size_hw
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.T
    steps = np.diff(columns, axis=1)
    column, start = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    first = (column + offset_yx[1]) * height + offset_yx[0]
    starts, stops = first + start, first + stop
    # a run that reaches the bottom goes on at the top of the next column
    joined = starts[1:] == stops[:-1]
    starts = starts[np.concatenate([[True], ~joined])] if starts.size else starts
    stops = stops[np.concatenate([~joined, [True]])] if stops.size else stops
    edges = np.concatenate([[0], np.stack([starts, stops], 1).ravel(), [height * width]])
    lengths = np.diff(edges).astype(np.int64)
    # no run of 0 of length zero at the end; COCO keeps the first one
    return lengths[:-1] if lengths.size > 1 and lengths[-1] == 0 else lengths


def _to_string(counts: npt.NDArray[np.int64]) -> str:
    """Return the compressed form of the lengths of runs."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    groups = np.zeros((values.size, _MAX_GROUPS), np.uint8)
    is_used = np.zeros(groups.shape, bool)
    is_open = np.ones(values.size, bool)
    for position in range(_MAX_GROUPS):
        bits = values & 0x1F
        values >>= 5
        is_used[:, position] = is_open
        is_open = is_open & np.where(bits & 0x10, values != -1, values != 0)
        groups[:, position] = bits + np.where(is_open, 0x20, 0) + _FIRST_CHARACTER
        if not is_open.any():
            break
    text: str = groups[is_used].tobytes().decode("ascii")
    return text


def _from_string(text: str | bytes) -> npt.NDArray[np.int64]:
    """Return the lengths of runs of the compressed form."""
    data = text.encode() if isinstance(text, str) else text
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    is_last = (groups & 0x20) == 0
    if not groups.size or groups.min() < 0 or groups.max() > 0x3F or not is_last[-1]:
        raise ValueError("the counts of a compressed COCO RLE are cut or are not COCO's")
    starts = np.concatenate([[0], np.flatnonzero(is_last)[:-1] + 1])
    sizes = np.diff(np.concatenate([starts, [groups.size]]))
    if sizes.max() > _MAX_GROUPS:
        raise ValueError("the counts of a compressed COCO RLE are cut or are not COCO's")
    shifts = 5 * (np.arange(groups.size) - np.repeat(starts, sizes))
    values = np.add.reduceat((groups & 0x1F) << np.minimum(shifts, 62), starts)
    is_negative = (groups[is_last] & 0x10) != 0
    values = np.where(is_negative, values - (1 << np.minimum(5 * sizes, 62)), values)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    result: npt.NDArray[np.int64] = values
    return result
