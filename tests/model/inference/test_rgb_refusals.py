"""What is no picture, and arguments that make no sense, are refused with what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import to_rgb


@pytest.mark.parametrize("shape", [(5,), (), (2, 3, 4, 5)])
def test_wrong_number_of_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableImageError, match=r"expected one picture of shape .* one plane"):
        to_rgb(np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0, 3), (4, 4, 0)])
def test_zero_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableImageError, match=r"expected a picture with pixels, got shape"):
        to_rgb(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("limits", [None, (0, 1)])
def test_nothing_finite(value: float, limits: tuple[float, float] | None) -> None:
    with pytest.raises(UnusableImageError, match=r"at least one finite pixel, .* check how it was"):
        to_rgb(np.full((5, 5), value), limits=limits)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 3), complex),
        np.full((3, 3), "a"),
        np.full((3, 3), 1, object),
        np.zeros((3, 3), "M8[s]"),
        np.zeros((3, 3), [("r", "u1"), ("g", "u1")]),
    ],
    ids=["complex", "text", "object", "time", "record"],
)
def test_values_that_are_no_intensities(image: npt.NDArray[Any]) -> None:
    with pytest.raises(UnusableImageError, match="boolean, integer or floating-point pixels, got"):
        to_rgb(image)


def test_rows_of_unequal_length() -> None:
    with pytest.raises(UnusableImageError, match="rows of equal length, got a list that NumPy ref"):
        to_rgb([[1, 2], [3]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": {"red": 3}}, r"channel 3 does not exist: the image has 3 \(0 to 2\)"),
        ({"channels": -1}, "channel -1 does not exist"),
        ({"channels": {"pink": 0}}, "channels must use the colours red, .*; got 'pink'"),
        ({"channels": []}, "channels must name at least one channel, got none"),
        ({"channels": [0, 1, 2, 0]}, "at most 3 indices .*, got 4; name colours"),
        ({"limits": (5, 5)}, r"limits must be finite with low < high, got \(5, 5\)"),
        ({"limits": (0, np.inf)}, "limits must be finite with low < high"),
        ({"limits": [(0, 1)] * 2}, r"one such pair for each of the 3 shown channels, got shape"),
        ({"percentiles": (50, 50)}, "percentiles must satisfy 0 <= low < high <= 100, got"),
        ({"percentiles": (-1, 50)}, "percentiles must satisfy"),
        ({"channel_axis": 3}, "channel_axis must be an axis of a three-dimensional image, got 3"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_rgb(np.zeros((8, 8, 3), np.uint8), **arguments)


@pytest.mark.parametrize("image", ["cells.tif", Path("cells.tif"), b"cells.tif"])
def test_the_name_of_a_file_is_no_picture(image: Any) -> None:
    with pytest.raises(
        TypeError, match=r"got the name of a file, 'cells.tif'; .*sam_plugins.read_image\('cells"
    ):
        to_rgb(image)


@pytest.mark.parametrize("thing", [None, {}, 3])
def test_what_is_no_array(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"the pixels of a picture, got {type(thing).__name__}$"):
        to_rgb(thing)
