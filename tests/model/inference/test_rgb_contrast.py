"""How numbers become 8 bits: every type, the range that is shown, limits and percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.inference.conftest import ramp

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference import rgb as rgb_module
from sam_plugins.model.inference.rgb import to_rgb


@pytest.mark.parametrize("start", [2**63 - 2**40, 2**63, 2**64 - 2**41])
def test_integers_beyond_the_signed_range(start: int) -> None:
    image = np.array([[start, start + 2**39, start + 2**40]], np.uint64)
    assert to_rgb(image, percentiles=(0, 100))[0, :, 0].tolist() == [0, 128, 255]


def test_the_8_bit_rule_is_a_span_of_64_levels() -> None:
    wide = np.tile(np.array([[100, 164]], np.uint8), (10, 10))
    narrow = np.tile(np.array([[100, 163]], np.uint8), (10, 10))
    assert set(np.unique(to_rgb(wide))) == {100, 164}
    assert set(np.unique(to_rgb(narrow))) == {0, 255}


def test_a_dim_8_bit_picture_with_hot_pixels_is_stretched() -> None:
    dim = ramp(np.uint8, 0, 40, 200)
    dim[3, 5] = 255
    assert to_rgb(dim).mean() > 100


def test_a_narrow_photograph_keeps_its_hue() -> None:
    dim = np.zeros((20, 20, 3), np.uint8)
    dim[:10, :, 0], dim[:10, :, 1] = 40, 20
    result = to_rgb(dim)
    assert tuple(result[0, 0]) == (255, 128, 0)


@pytest.mark.parametrize(
    "dtype",
    ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">u2", ">f4"],
)
def test_every_number_type_spans_the_range(dtype: str) -> None:
    result = to_rgb(ramp(dtype, 0, 60))
    assert result.dtype == np.uint8
    assert result.min() == 0
    assert result.max() == 255
    assert abs(float(result.mean()) - 127.5) < 4


def test_booleans_are_black_and_white() -> None:
    mask = np.zeros((40, 40), bool)
    mask[3, 3] = True
    result = to_rgb(mask)
    assert result[3, 3, 0] == 255
    assert result.sum() == 3 * 255


@pytest.mark.parametrize(
    ("low", "high"),
    [(-3e38, 3e38), (-1.7e308, 1.7e308), (1e-300, 2e-300), (30000, 30040)],
)
def test_extreme_ranges_do_not_overflow(low: float, high: float) -> None:
    assert to_rgb(np.array([[low, high]] * 8, np.float64))[0, :, 0].tolist() == [0, 255]


def test_the_smallest_range_is_seen() -> None:
    assert to_rgb(np.array([[0, 5e-324]]))[..., 0].tolist() == [[0, 255]]
    assert to_rgb(np.array([[-1e308, 1.0, 1e308]]), limits=(0, 1))[..., 0].tolist() == [
        [0, 255, 255]
    ]


@pytest.mark.skipif(
    np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="longdouble is float64 here"
)
def test_values_beyond_float64_are_refused() -> None:
    picture = np.array([[1, 2], [3, 4]], np.longdouble)
    assert to_rgb(picture)[..., 0].tolist() == [[0, 85], [170, 255]]
    picture[0, 1] = np.inf
    assert to_rgb(picture).shape == (2, 2, 3)
    message = (
        r"expected values of at most 1\.8e\+308, got larger ones of type .*; divide them first"
    )
    with pytest.raises(UnusableImageError, match=message):
        to_rgb(picture * np.longdouble("1e400"))


@pytest.mark.parametrize("percentiles", [(1,), (1, 2, 3), 5, "ab", ("a", "b"), None, (9, 1)])
def test_percentiles_that_are_no_range_are_named(percentiles: Any) -> None:
    with pytest.raises(ValueError, match=r"^percentiles must satisfy 0 <= low < high <= 100, got"):
        to_rgb(np.eye(4), percentiles=percentiles)


@pytest.mark.parametrize("limits", ["ab", ("a", "b"), [(1, 2), 3], {"low": 1}])
def test_limits_that_are_no_numbers_are_named(limits: Any) -> None:
    with pytest.raises(ValueError, match=r"^limits must be two numbers, low and high, or one such"):
        to_rgb(np.eye(4), limits=limits)


def test_the_largest_integers() -> None:
    image = np.array([[0, 2**64 - 1]], np.uint64)
    assert to_rgb(image)[0, :, 0].tolist() == [0, 255]


def test_a_narrow_range_of_16_bits_fills_the_range() -> None:
    result = to_rgb(ramp(np.uint16, 1200, 1500))
    assert (result.min(), result.max()) == (0, 255)
    assert len(np.unique(result)) > 200


def test_hot_pixels_do_not_set_the_contrast() -> None:
    image = ramp(np.uint16, 100, 200, 100)
    image[0, :3] = 65535
    assert to_rgb(image).mean() > 100


def test_a_sparse_picture_shows_its_few_bright_pixels() -> None:
    image = np.zeros((200, 200), np.uint16)
    image[7, 7] = 900
    assert to_rgb(image)[7, 7, 0] == 255


def test_nan_and_infinities() -> None:
    image = ramp(np.float32)
    image[0, :3] = [np.nan, np.inf, -np.inf]
    result = to_rgb(image)
    assert result[0, :3, 0].tolist() == [0, 255, 0]
    without = to_rgb(np.where(np.isfinite(image), image, 0)).astype(int)
    assert np.abs(result[1:] - without[1:]).max() <= 1


def test_finite_pixels_missed_by_the_grid_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rgb_module, "_MAX_SAMPLES", 16)
    image = np.full((64, 64), np.nan)
    image[1, 1], image[1, 2] = 5.0, 6.0
    assert to_rgb(image)[1, 1:3, 0].tolist() == [0, 255]


@pytest.mark.parametrize(("dtype", "value"), [("u1", 200), ("u2", 0), ("f4", 0), ("i8", 0)])
def test_constant_pictures(dtype: str, value: int) -> None:
    result = to_rgb(np.full((9, 9), 200, dtype))
    assert (result == value).all()


def test_limits_are_applied_even_to_8_bit() -> None:
    image = np.array([[0, 50, 100, 255]], np.uint8)
    assert to_rgb(image, limits=(50, 100))[0, :, 0].tolist() == [0, 0, 255, 255]


def test_the_full_limits_are_the_identity(photograph: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_rgb(photograph, limits=(0, 255)), photograph)


def test_percentiles_may_be_chosen() -> None:
    image = ramp(np.float64, 0, 100)
    result = to_rgb(image, percentiles=(25, 75))
    assert (result == 0).mean() == pytest.approx(3 * 0.25 / 3, abs=0.01)
    assert (result == 255).mean() == pytest.approx(0.25, abs=0.01)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 1000), st.floats(-1000, 1000))
def test_gain_and_offset_do_not_matter(gain: float, offset: float) -> None:
    image = ramp(np.float64, 0, 1)
    difference = to_rgb(image * gain + offset).astype(int) - to_rgb(image)
    assert np.abs(difference).max() <= 1
