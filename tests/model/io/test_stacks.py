"""A file as one stack holds the values that its planes have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.io.images import open_image
from sam_plugins.model.io.stacks import StackArray

RNG = np.random.default_rng(3)
GREYS = RNG.integers(0, 200, (3, 6, 9), dtype=np.uint8)
CHANNELS = RNG.integers(0, 60000, (3, 2, 6, 9), dtype=np.uint16)


def palette() -> npt.NDArray[np.uint16]:
    return np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 9)]).astype(np.uint16) << 8


CASES: dict[str, tuple[npt.NDArray[Any], dict[str, Any]]] = {
    "as stored": (GREYS, {"photometric": "minisblack"}),
    "white is zero": (GREYS, {"photometric": "miniswhite"}),
    "palette": (GREYS, {"photometric": "palette", "colormap": palette()}),
    "turned": (GREYS, {"photometric": "minisblack", "extratags": [(274, 3, 1, 6, False)]}),
    "turned and inverted": (
        GREYS,
        {"photometric": "miniswhite", "extratags": [(274, 3, 1, 8, False)]},
    ),
    "colours": (
        RNG.integers(0, 255, (3, 6, 9, 3), dtype=np.uint8),
        {"photometric": "rgb", "extratags": [(274, 3, 1, 6, False)]},
    ),
    "channels": (CHANNELS, {"photometric": "minisblack", "metadata": {"axes": "ZCYX"}}),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_planes(tmp_path: Path, case: str) -> None:
    stored, options = CASES[case]
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stored, **{"metadata": None, **options})
    with open_image(path) as image:
        planes = [image.plane(index) for index in range(3)]
        channels_last = [
            np.moveaxis(one.pixels, 0, -1) if one.channel_axis == 0 else one.pixels
            for one in planes
        ]
        expected = np.stack(channels_last)
        array = StackArray(image)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert array.channel_axis == (3 if expected.ndim == 4 else None)
        places: list[tuple[int | slice, ...]] = [
            (slice(None),) * expected.ndim,
            (1,),
            (slice(None), 2),
            (slice(1, 3), slice(2, 5), 4),
            (2, slice(None, None, 2), slice(1, 6)),
            (slice(2, 2), slice(1, 4)),
        ]
        for where in places:
            part = array[where]
            assert part.dtype == expected.dtype
            np.testing.assert_array_equal(part, expected[where])


def test_a_single_picture_is_no_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREYS[0])
    with (
        open_image(tmp_path / "a.tif") as image,
        pytest.raises(UnusableImageError, match=r"must have one axis of slices, it has none"),
    ):
        StackArray(image)
