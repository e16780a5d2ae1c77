"""Label Studio's run-length encoding of brush masks, in NumPy.

The format is that of ``@thi.ng/rle-pack``, a stream of bits, the highest of each byte first: 32
bits for the number of values; 5 bits for the size of a value in bits, less 1; four times 4 bits for
the sizes of lengths, less 1. Then chunks: 1 bit that tells a run from values one by one, 2 bits
that choose one of the four sizes, the length less 1 in as many bits, and the value of the run or
all values. The values are the samples red, green, blue and alpha of every pixel, row by row, 8 bits
each; alpha tells where the brush was. In JSON the bytes are a list of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]

_SAMPLES = 4
_WORD_BITS = 8
_LENGTH_BITS = np.array([3, 4, 8, 16])
_LONGEST = 1 << 16
_HALF = 128
_HEADER_BITS = 32 + 5 + 4 * 4


def encode_brush(mask: BoolArray) -> list[int]:
    """Return a mask as Label Studio stores what was painted with a brush.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool

    Returns
    -------
    list of int
        Bytes, 0 to 255, ready for JSON.

    Raises
    ------
    ValueError
        If the mask has not two axes.

    Examples
    --------
    >>> encode_brush(np.ones((1, 2), bool))
    [0, 0, 0, 8, 57, 27, 252, 255, 224]
    """
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape (H, W), got {mask.shape}")
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths, values = np.diff(edges) * _SAMPLES, flat[edges[:-1]] if flat.size else flat
    pieces = -(-lengths // _LONGEST)
    whole = np.full(int(pieces.sum()), _LONGEST)
    whole[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST
    bits = np.concatenate([_header(flat.size * _SAMPLES), _runs(whole, np.repeat(values, pieces))])
    numbers: list[int] = np.packbits(bits).tolist()
    return numbers


def decode_brush(rle: Sequence[int], size_hw: tuple[int, int]) -> BoolArray:
    """Return the mask that was painted with a brush in Label Studio.

    Parameters
    ----------
    rle : sequence of int
        Bytes.
    size_hw : (int, int)
        Height and width of the picture: ``original_height`` and ``original_width``.

    Returns
    -------
    ndarray of shape (H, W), bool
        Where the brush covers half a pixel or more (an alpha of 128).

    Raises
    ------
    ValueError
        If the bytes are cut or changed, or are of a picture of another size.

    Examples
    --------
    >>> decode_brush([0, 0, 0, 8, 57, 27, 252, 255, 224], (1, 2))
    array([[ True,  True]])
    """
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise ValueError("a brush RLE must be a list of bytes, 0 to 255") from error
    wanted = size_hw[0] * size_hw[1] * _SAMPLES
    if 8 * len(data) < _HEADER_BITS:
        raise ValueError(f"a brush RLE has 7 bytes or more, got {len(data)}; the list was cut")
    count, word = _bits(data, 0, 32), _bits(data, 32, 5) + 1
    if count != wanted or word != _WORD_BITS:
        raise ValueError(
            f"a brush RLE of a picture of {size_hw[0]} x {size_hw[1]} must hold {wanted} values of "
            f"8 bits, got {count} of {word}; it belongs to another picture, or was changed"
        )
    samples = _samples(data, count)
    mask: BoolArray = (samples.reshape(*size_hw, _SAMPLES)[..., 3] >= _HALF).copy()
    return mask


def _samples(data: bytes, count: int) -> npt.NDArray[np.uint8]:
    """Return all values of a stream."""
    sizes = [_bits(data, 37 + 4 * index, 4) + 1 for index in range(4)]
    samples = np.zeros(count, np.uint8)
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8))
    place, done = _HEADER_BITS, 0
    while done < count:
        head = _bits(data, place, 3)
        is_run, size = head >> 2, sizes[head & 3]
        length = _bits(data, place + 3, size) + 1
        place += 3 + size
        stop = place + _WORD_BITS * (1 if is_run else length)
        if stop > unpacked.size or done + length > count:
            raise ValueError("the brush RLE ends too early or holds too much; the list was cut")
        samples[done : done + length] = np.packbits(unpacked[place:stop])
        place, done = stop, done + length
    return samples


def _bits(data: bytes, place: int, count: int) -> int:
    """Return a number of up to 32 bits; nothing but zeros follows the end."""
    start = place >> 3
    window = int.from_bytes(data[start : start + 5].ljust(5, b"\0"), "big")
    return window >> (40 - (place & 7) - count) & ((1 << count) - 1)


def _header(count: int) -> npt.NDArray[np.uint8]:
    """Return the bits before the first chunk."""
    number = count
    for value, size in [(_WORD_BITS - 1, 5), *((int(bits) - 1, 4) for bits in _LENGTH_BITS)]:
        number = number << size | value
    return np.array([number >> place & 1 for place in reversed(range(_HEADER_BITS))], np.uint8)


def _runs(lengths: npt.NDArray[np.int64], values: BoolArray) -> npt.NDArray[np.uint8]:
    """Return the bits of chunks that are runs of 0 or 255, each length in the fewest bits."""
    choice = np.searchsorted(1 << _LENGTH_BITS, lengths)
    bits = np.zeros((lengths.size, 3 + 16 + _WORD_BITS), np.uint8)
    bits[:, 0] = 1
    bits[:, 1], bits[:, 2] = choice >> 1, choice & 1
    bits[:, 3:19] = (lengths[:, None] - 1) >> np.arange(15, -1, -1) & 1
    bits[:, 19:] = values[:, None]
    is_used = np.ones(bits.shape, bool)
    is_used[:, 3:19] = np.arange(16) >= 16 - _LENGTH_BITS[choice][:, None]
    used: npt.NDArray[np.uint8] = bits[is_used]
    return used
