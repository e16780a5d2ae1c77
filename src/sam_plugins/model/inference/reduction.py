"""Pictures that a model sees so much reduced that tiles are the better way."""

from __future__ import annotations

import warnings

from sam_plugins.model.networks.config import Preprocessing

PAYS_FROM = 2.0
"""Pictures longer than the longest input of a model by this factor are segmented by tiles."""

STRIP = 8.0
"""Pictures longer than wide by this factor lose most small objects as soon as they are reduced."""


class ReducedImageWarning(UserWarning):
    """The model sees a picture so much reduced that it may miss objects."""


def needs_tiles(size_hw: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Return whether a picture is so much larger than the model's input that tiles pay."""
    return max(size_hw) > PAYS_FROM * preprocessing.max_long_side


def is_reduced_strip(size_hw: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Return whether a picture is long, narrow, and reduced for the model.

    Discs of 16 pixels in 30 x 1,000 pixels are all found by the shipped model, which sees them as
    they are; in 30 x 2,000 pixels, which it sees at half the size, 1 of 50.

    Examples
    --------
    >>> [is_reduced_strip(size, Preprocessing()) for size in ((30, 1000), (30, 2000), (500, 2000))]
    [False, True, False]
    """
    longest = max(size_hw)
    return longest > preprocessing.max_long_side and longest > STRIP * min(size_hw)


def warn_reduced(
    size_hw: tuple[int, int], preprocessing: Preprocessing, *, stacklevel: int = 2
) -> None:
    """Warn that a picture is seen much reduced, and name the tiled way."""
    height, width = size_hw
    scale = preprocessing.max_long_side / max(size_hw)
    seen = f"{max(1, round(height * scale))} x {max(1, round(width * scale))}"
    warnings.warn(
        f"the model sees this picture of {height} x {width} pixels reduced to {seen}, and may miss "
        "most of its small objects; segment it by tiles with segment_large",
        ReducedImageWarning,
        stacklevel=stacklevel + 1,
    )
