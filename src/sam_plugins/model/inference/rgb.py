"""From an image as people have it to the 8-bit RGB picture that the model sees.

Contrast rules, decided once for every front end:

* The limits are robust percentiles of the **whole** picture, never of a tile, so that neighbouring
  tiles agree. Huge pictures are sampled on a regular grid.
* A colour photograph (3 or 4 channels, the channel axis last, no mapping asked for) is stretched
  jointly, which keeps its hues. Mapped channels are stretched one by one, because the channels of a
  fluorescence picture have unrelated ranges.
* 8-bit values that span at least :data:`MIN_SPAN_8BIT` levels pass **unchanged**: an ordinary
  photograph gives the same numbers as in segment_anything. Narrower 8-bit pictures, and all other
  types, are stretched to 0..255. Explicit limits are always applied.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.pixels import as_sliceable
from sam_plugins.model.io.arrays import SliceableArray

UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Limits: TypeAlias = tuple[float, float]
Channels: TypeAlias = int | Sequence[int] | npt.NDArray[np.integer[Any]] | Mapping[str, int]

DEFAULT_PERCENTILES: tuple[float, float] = (0.1, 99.9)
MIN_SPAN_8BIT = 64
"""8-bit values whose robust range covers this many levels (a quarter) are not stretched."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "magenta": (1, 0, 1),
    "yellow": (1, 1, 0),
    "grey": (1, 1, 1),
    "gray": (1, 1, 1),
}
"""Names that a channel mapping may use, as weights of red, green and blue."""

_MAX_SAMPLES = 1 << 21
_BLOCK_VALUES = 1 << 22
_POSITIONS = ("red", "green", "blue")


def to_rgb(
    image: npt.ArrayLike | SliceableArray,
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES,
    *,
    channel_axis: int | None = None,
) -> UInt8Array:
    """Return what the model sees: an 8-bit RGB picture with its contrast set.

    Parameters
    ----------
    image : array_like of shape (H, W), (H, W, C) or (C, H, W)
        Boolean, integer (8 to 64 bits) or floating point. Anything with ``shape``, ``dtype`` and
        slicing works (Zarr, Dask, memory maps) and is read in blocks. One channel is grey. Two
        channels become red and green. Three channels are RGB; four, channel axis last, are RGBA,
        whose alpha is dropped (as ``PIL.Image.convert("RGB")`` does). Any other number needs
        ``channels``. A ``PIL.Image`` of any mode is taken, too: palettes and CMYK become RGB, and
        its pixels stay where they are (no EXIF orientation is applied). Of a masked array no pixel
        may be masked.
    channels : int, sequence or array of int, or mapping of colour name to int, optional
        Which channels to show: one index (grey), up to three indices (red, green, blue), or a
        mapping such as ``{"red": 0, "cyan": 3}`` whose colours are added up. Colours are in
        :data:`~sam_plugins.model.inference.rgb.COLOURS`.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as 0 and as 255, for all channels or for each mapped channel in turn. Values
        outside are clipped. Given limits are always applied.
    percentiles : (float, float)
        Percent, 0 to 100: where the limits come from when none are given.
    channel_axis : int, optional
        Axis of the channels. Guessed when not given: the last axis where it holds 4 or fewer, as
        colour pictures have it, whatever the first axis holds; else the shorter one of the first
        and the last axis. (3, 300, 4) is therefore RGBA of 3 rows; give the axis where that is
        wrong.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        NaN and minus infinity are shown as 0, infinity as 255. A picture of one single value is
        black unless it is 8-bit, when it passes unchanged.

    Raises
    ------
    UnusableImageError
        If the array is empty, masked, holds no finite value, is not a picture, or has a number of
        channels that nobody said how to show.
    UnreadableImageError
        If a ``PIL.Image`` reads its pixels only now, from a damaged file.
    ValueError
        If ``channels``, ``limits``, ``percentiles`` or ``channel_axis`` do not fit the image.
    TypeError
        If ``image`` is the name of a file, or ``channels`` holds no indices.

    Examples
    --------
    >>> to_rgb(np.array([[100, 200], [300, 400]], np.uint16), limits=(100, 400))[..., 0]
    array([[  0,  85],
           [170, 255]], dtype=uint8)
    """
    array = as_sliceable(image)
    _check_percentiles(percentiles)
    axis = _channel_axis(array, channels, channel_axis)
    count = 1 if axis is None else int(array.shape[axis])
    weights, is_joint = _colour_weights(channels, count, axis, len(array.shape))
    used = [index for index, _ in weights]
    ranges = _ranges(array, axis, used, is_joint, limits, percentiles)
    height, width = (n for i, n in enumerate(array.shape) if i != axis)
    rgb = np.empty((height, width, 3), np.uint8)
    for rows, block in _row_blocks(array, axis):
        rgb[rows] = _mix(block, weights, ranges)
    return rgb


def contrast_limits(
    image: npt.ArrayLike | SliceableArray,
    channels: Channels | None = None,
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES,
    *,
    channel_axis: int | None = None,
) -> list[Limits]:
    """Return the limits that :func:`to_rgb` would choose, to show other pictures alike.

    Parameters and errors are those of :func:`to_rgb`.

    Returns
    -------
    list of (float, float)
        For each shown channel; ``(0, 255)`` where 8-bit values pass unchanged. A channel of one
        single value is black.

    Examples
    --------
    >>> contrast_limits(np.array([[0, 1000], [500, 500]], np.uint16), percentiles=(0, 100))
    [(0.0, 1000.0)]
    """
    array = as_sliceable(image)
    _check_percentiles(percentiles)
    axis = _channel_axis(array, channels, channel_axis)
    count = 1 if axis is None else int(array.shape[axis])
    weights, is_joint = _colour_weights(channels, count, axis, len(array.shape))
    ranges = _ranges(array, axis, [index for index, _ in weights], is_joint, None, percentiles)
    return [(0.0, 255.0) if limits is None else _with_a_span(limits) for limits in ranges]


def _with_a_span(limits: Limits) -> Limits:
    """Return limits that may be asked for: a picture of one value has none, and stays black."""
    low, high = limits
    return (low, high) if low < high else (low, max(low + 1, math.nextafter(low, math.inf)))


def checked_channel_axis(
    image: npt.ArrayLike | SliceableArray,
    channels: Channels | None = None,
    channel_axis: int | None = None,
) -> int | None:
    """Return the axis that :func:`to_rgb` takes for the channels of a picture, None for none.

    Parameters and errors are those of :func:`to_rgb`; no pixel is read.

    Examples
    --------
    >>> checked_channel_axis(np.zeros((2, 300, 300)))
    0
    """
    array = as_sliceable(image)
    axis = _channel_axis(array, channels, channel_axis)
    count = 1 if axis is None else int(array.shape[axis])
    _colour_weights(channels, count, axis, len(array.shape))
    return axis


def channel_indices(
    channels: Mapping[str, int | str] | Sequence[int | str], channel_names: Sequence[str]
) -> dict[str, int] | list[int]:
    """Return a channel mapping with the names of channels replaced by their indices.

    Parameters
    ----------
    channels : mapping of colour to int or str, or sequence of int or str
        As in :func:`to_rgb`, but a channel may also be named, ``{"blue": "DAPI"}``.
    channel_names : sequence of str
        The names in the file, in order; compared without regard to case.

    Raises
    ------
    ValueError
        If a name is not among ``channel_names``.
    """
    known = {name.casefold(): index for index, name in reversed(list(enumerate(channel_names)))}

    def index_of(channel: int | str) -> int:
        if not isinstance(channel, str):
            return channel
        if channel.casefold() not in known:
            have = ", ".join(channel_names) if channel_names else "none"
            raise ValueError(
                f"no channel is named {channel!r}; named channels of this image: {have}"
            )
        return known[channel.casefold()]

    if isinstance(channels, Mapping):
        return {colour: index_of(channel) for colour, channel in channels.items()}
    return [index_of(channel) for channel in channels]


def _check_percentiles(percentiles: tuple[float, float]) -> None:
    """Refuse percentiles that are no range."""
    try:
        low, high = percentiles
        is_range = bool(0 <= low < high <= 100)
    except (TypeError, ValueError):
        is_range = False
    if not is_range:
        raise ValueError(f"percentiles must satisfy 0 <= low < high <= 100, got {percentiles!r}")


def _channel_axis(
    image: SliceableArray, channels: Channels | None, channel_axis: int | None
) -> int | None:
    """Return the axis of the channels, or None for a picture without one."""
    ndim = len(image.shape)
    if channel_axis is not None:
        if ndim == 2 or not -ndim <= channel_axis < ndim:
            raise ValueError(
                f"channel_axis must be an axis of a three-dimensional image, got {channel_axis} "
                f"for shape {tuple(image.shape)}"
            )
        return channel_axis % ndim
    if ndim == 2:
        return None
    axis = 0 if image.shape[2] > 4 and image.shape[0] < image.shape[2] else 2
    if channels is None and image.shape[axis] > 4:
        raise UnusableImageError(
            f"expected at most 4 channels, first or last, got shape {tuple(image.shape)}; "
            'say which channels to show, such as channels={"red": 0, "green": 2}, '
            "or pass one plane of a stack"
        )
    return axis


def _colour_weights(
    channels: Channels | None, count: int, axis: int | None, ndim: int
) -> tuple[list[tuple[int, tuple[float, float, float]]], bool]:
    """Return (channel, RGB weights) for each channel to show, and whether they share one range."""
    if channels is None:
        if count == 4 and axis != ndim - 1:
            raise UnusableImageError(
                "4 channels are read as RGBA only where the channel axis is the last one; "
                'say which channels to show, such as channels={"red": 0, "green": 2}'
            )
        if count > 4:
            raise UnusableImageError(
                f"expected at most 4 channels, got {count}; say which channels to show, "
                'such as channels={"red": 0, "green": 2}'
            )
        if count in (3, 4):
            return [(i, COLOURS[_POSITIONS[i]]) for i in range(3)], True
        channels = 0 if count == 1 else (0, 1)
    pairs = _named(channels)
    if not pairs:
        raise ValueError("channels must name at least one channel, got none")
    for colour, index in pairs:
        if colour not in COLOURS:
            raise ValueError(f"channels must use the colours {', '.join(COLOURS)}; got {colour!r}")
        if not 0 <= index < count:
            raise ValueError(
                f"channel {index} does not exist: the image has {count} (0 to {count - 1})"
            )
    return [(index, COLOURS[colour]) for colour, index in pairs], False


def _named(channels: Channels) -> list[tuple[str, int]]:
    """Return every form of a channel choice as (colour, index) pairs."""
    if isinstance(channels, np.ndarray):
        channels = cast("int | list[int]", channels.tolist())
    if isinstance(channels, Mapping):
        return [(str(colour), _index(index)) for colour, index in channels.items()]
    if isinstance(channels, Sequence) and not isinstance(channels, str | bytes):
        if len(channels) > 3:
            raise ValueError(
                f"channels must list at most 3 indices (red, green, blue), got {len(channels)}; "
                'name colours for more, such as {"cyan": 3}'
            )
        names = ("grey",) if len(channels) == 1 else _POSITIONS
        return [(name, _index(i)) for name, i in zip(names, channels, strict=False)]
    return [("grey", _index(channels))]


def _index(channel: object) -> int:
    """Return the index of a channel as an integer, or say what channels must be."""
    if isinstance(channel, SupportsIndex) and not isinstance(channel, bool | np.bool_):
        with contextlib.suppress(TypeError):  # arrays promise to be indices, whatever they hold
            return operator.index(channel)
    raise TypeError(
        "channels must be an index, up to three indices, or a mapping of colours to indices, such "
        f'as {{"red": 0, "green": 2}}; got {channel!r} for an index'
    )


def _ranges(
    image: SliceableArray,
    axis: int | None,
    used: list[int],
    is_joint: bool,
    limits: Limits | Sequence[Limits] | None,
    percentiles: tuple[float, float],
) -> list[Limits | None]:
    """Return the limits of each shown channel; None where 8-bit values pass unchanged."""
    sample = _sample(image, axis)[:, used]
    if not np.isfinite(sample).any() and not _finite_extremes(image, axis, used):
        raise UnusableImageError(
            "expected at least one finite pixel, got only NaN or infinity in an image of shape "
            f"{tuple(image.shape)}; check how it was computed or exported"
        )
    if limits is not None:
        return list(_given_limits(limits, len(used)))
    if image.dtype == np.bool_:
        return [(0.0, 1.0)] * len(used)
    if is_joint:
        return [_robust_range(sample, image, axis, used, percentiles)] * len(used)
    return [
        _robust_range(sample[:, [i]], image, axis, [channel], percentiles)
        for i, channel in enumerate(used)
    ]


def _given_limits(limits: Limits | Sequence[Limits], count: int) -> list[Limits]:
    """Check explicit limits and return one pair for each shown channel."""
    try:
        values = np.asarray(limits, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"limits must be two numbers, low and high, or one such pair for each of the {count} "
            f"shown channels, got {limits!r}"
        ) from error
    if values.shape == (2,):
        values = np.broadcast_to(values, (count, 2))
    if values.shape != (count, 2):
        raise ValueError(
            f"limits must be (low, high) or one such pair for each of the {count} shown channels, "
            f"got shape {values.shape}"
        )
    if not np.isfinite(values).all() or (values[:, 0] >= values[:, 1]).any():
        raise ValueError(f"limits must be finite with low < high, got {limits}")
    return [(float(low), float(high)) for low, high in values]


def _robust_range(
    sample: npt.NDArray[Any],
    image: SliceableArray,
    axis: int | None,
    used: list[int],
    percentiles: tuple[float, float],
) -> Limits | None:
    """Return the limits of one channel, or of channels that share them."""
    finite = sample[np.isfinite(sample)].astype(np.float64)
    low, high = np.percentile(finite, percentiles) if finite.size else (0.0, 0.0)
    if image.dtype == np.uint8 and high - low >= MIN_SPAN_8BIT:
        return None
    if low >= high:  # nearly all pixels share one value (a sparse picture): use all there is
        low, high = _finite_extremes(image, axis, used) or (0.0, 0.0)
        if image.dtype == np.uint8 and low >= high:
            return None
    return float(low), float(high)


def _sample(image: SliceableArray, axis: int | None) -> npt.NDArray[Any]:
    """Return at most about two million values on a regular grid as (pixels, channels)."""
    size_hw = [n for i, n in enumerate(image.shape) if i != axis]
    count = 1 if axis is None else int(image.shape[axis])
    step = max(1, math.ceil(math.sqrt(size_hw[0] * size_hw[1] * count / _MAX_SAMPLES)))
    where = tuple(slice(None, None, 1 if i == axis else step) for i in range(len(image.shape)))
    return _channels_last(np.asarray(image[where]), axis).reshape(-1, count)


def _finite_extremes(image: SliceableArray, axis: int | None, used: list[int]) -> Limits | None:
    """Return the smallest and the largest finite value of some channels, if there is one."""
    found: list[float] = []
    for _, block in _row_blocks(image, axis):
        values = block[..., used]
        values = values[np.isfinite(values)]
        if values.size:
            found += [float(values.min()), float(values.max())]
    return (min(found), max(found)) if found else None


def _row_blocks(
    image: SliceableArray, axis: int | None
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Yield (rows, block of shape (h, W, C)) so that only a few million values are in memory."""
    row_axis = 1 if axis == 0 else 0
    height = int(image.shape[row_axis])
    values_per_row = int(np.prod(image.shape, dtype=np.int64)) // height
    step = max(1, _BLOCK_VALUES // values_per_row)
    for start in range(0, height, step):
        rows = slice(start, min(height, start + step))
        where = (slice(None), rows) if row_axis == 1 else (rows,)
        yield rows, _channels_last(np.asarray(image[where]), axis)


def _channels_last(block: npt.NDArray[Any], axis: int | None) -> npt.NDArray[Any]:
    """Return a block as (H, W, C), of numbers that float64 holds."""
    if block.dtype.kind == "f" and block.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            narrow = block.astype(np.float64)
        if (np.isinf(narrow) & np.isfinite(block)).any():
            raise UnusableImageError(
                f"expected values of at most {np.finfo(np.float64).max:.1e}, got larger ones of "
                f"type {block.dtype}; divide them first"
            )
        block = narrow
    return block[..., None] if axis is None else np.moveaxis(block, axis, -1)


def _mix(
    block: npt.NDArray[Any],
    weights: list[tuple[int, tuple[float, float, float]]],
    ranges: list[Limits | None],
) -> UInt8Array:
    """Return a block as RGB: each channel stretched, coloured and added up."""
    stretched = [
        _stretch(block[..., index], r) for (index, _), r in zip(weights, ranges, strict=True)
    ]
    if len(weights) == 1 and weights[0][1] == COLOURS["grey"]:
        return np.repeat(stretched[0][..., None], 3, axis=-1)
    total = np.zeros((*block.shape[:2], 3), np.uint16)
    for values, (_, colour) in zip(stretched, weights, strict=True):
        for position in range(3):
            if colour[position]:
                # clipped at each step: no number of channels can overflow
                total[..., position] = np.minimum(total[..., position] + values, 255)
    return total.astype(np.uint8)


def _stretch(values: npt.NDArray[Any], limits: Limits | None) -> UInt8Array:
    """Map limits to 0..255 and clip."""
    if limits is None:
        return values.astype(np.uint8, copy=False)
    low, high = limits
    if low >= high:
        return np.zeros(values.shape, np.uint8)
    # Halves where the difference of two large values would overflow; of the smallest ones the half
    # is nothing.
    factor = 1.0 if math.isfinite(high - low) else 0.5
    with np.errstate(over="ignore"):  # far beyond the limits
        scaled = values.astype(np.float64) * factor
        scaled -= low * factor
        scaled /= high * factor - low * factor
    scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    result: UInt8Array = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return result
