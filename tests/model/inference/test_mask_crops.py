"""What CLIP sees of a mask."""

from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.inference.mask_crops import crop_object


def window_mask(mask: np.ndarray) -> WindowMask:
    return WindowMask((slice(0, mask.shape[0]), slice(0, mask.shape[1])), mask)


@pytest.fixture
def picture() -> np.ndarray:
    rows, columns = np.mgrid[:20, :30]
    return np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)


def test_the_crop_is_the_square_around_the_box(picture: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:18] = True
    crop = crop_object(picture, window_mask(mask), 8)
    np.testing.assert_array_equal(crop, picture[3:11, 10:18])


def test_a_window_is_as_good_as_a_whole_mask(picture: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:18] = True
    mask[5, 10] = False
    within = WindowMask((slice(4, 12), slice(9, 20)), mask[4:12, 9:20])
    for is_masked in (False, True):
        whole = crop_object(picture, window_mask(mask), 8, scale=1.5, is_masked=is_masked)
        np.testing.assert_array_equal(
            crop_object(picture, within, 8, scale=1.5, is_masked=is_masked), whole
        )


def test_a_larger_scale_shows_more_and_pads_beyond_the_picture(picture: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[0:4, 0:4] = True
    crop = crop_object(picture, window_mask(mask), 8, scale=2.0, fill=(7, 8, 9))
    assert (crop[:2] == (7, 8, 9)).all()
    assert (crop[:, :2] == (7, 8, 9)).all()
    np.testing.assert_array_equal(crop[2:, 2:], picture[:6, :6])


def test_what_is_not_the_object_is_filled_where_it_is_masked(picture: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[6, 11:15] = mask[5:9, 13] = True
    crop = crop_object(picture, window_mask(mask), 4, is_masked=True, fill=(1, 2, 3))
    inside = mask[5:9, 11:15]
    np.testing.assert_array_equal(crop[inside], picture[5:9, 11:15][inside])
    assert (crop[~inside] == (1, 2, 3)).all()


def test_a_single_pixel_in_a_corner(picture: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[19, 29] = True
    assert (crop_object(picture, window_mask(mask), 5) == picture[19, 29]).all()


def test_refusals(picture: np.ndarray) -> None:
    empty = window_mask(np.zeros((20, 30), bool))
    with pytest.raises(ValueError, match="must hold at least one pixel, got an empty one"):
        crop_object(picture, empty, 8)
    full = window_mask(np.ones((20, 30), bool))
    with pytest.raises(ValueError, match=r"must be 1 or more, got 8 and 0\.5"):
        crop_object(picture, full, 8, scale=0.5)
    with pytest.raises(ValueError, match=r"must be 1 or more, got 0 and 1\.0"):
        crop_object(picture, full, 0)
