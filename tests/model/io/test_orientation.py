"""Pictures turned upright."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_plugins.model.io.orientation import ORIENTATION_TAG, upright

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_pillow_turns_them(orientation: int) -> None:
    picture = Image.fromarray(RGB)
    picture.getexif()[ORIENTATION_TAG] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(upright(RGB, orientation), expected)
    np.testing.assert_array_equal(upright(RGB[..., 0], orientation), expected[..., 0])
    channels_first = upright(np.moveaxis(RGB, 2, 0), orientation, row_axis=1)
    np.testing.assert_array_equal(channels_first, np.moveaxis(expected, 2, 0))
