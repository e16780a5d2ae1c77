"""Which channels of a picture become red, green and blue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.model.inference.conftest import ramp

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.rgb import channel_indices, to_rgb


def test_two_channels_are_red_and_green_each_with_its_own_range() -> None:
    image = np.stack([ramp(np.uint16, 0, 100), ramp(np.uint16, 1000, 60000)])
    result = to_rgb(image)
    assert result[..., 0].max() == result[..., 1].max() == 255
    assert (result[..., 2] == 0).all()


@pytest.mark.parametrize("axis", [0, 2])
def test_a_named_mapping_from_many_channels(axis: int) -> None:
    planes = [ramp(np.uint16, i, 100 * (i + 1)) for i in range(6)]
    image = np.stack(planes, axis=axis)
    result = to_rgb(image, channels={"red": 4, "blue": 1})
    np.testing.assert_array_equal(result[..., 0], to_rgb(planes[4])[..., 0])
    np.testing.assert_array_equal(result[..., 2], to_rgb(planes[1])[..., 0])
    assert (result[..., 1] == 0).all()


def test_colours_add_up_and_are_clipped() -> None:
    image = np.full((5, 5, 4), 200, np.uint8)
    result = to_rgb(
        image,
        channels={"cyan": 0, "magenta": 1, "grey": 2, "yellow": 3},
        limits=(0, 255),
    )
    assert (result == 255).all()
    assert tuple(to_rgb(image, channels={"cyan": 0}, limits=(0, 255))[0, 0]) == (0, 200, 200)


def test_indices_alone() -> None:
    image = np.stack([ramp(np.uint8), ramp(np.uint8)[::-1], np.zeros((64, 64), np.uint8)], 2)
    np.testing.assert_array_equal(to_rgb(image, channels=1), to_rgb(image[..., 1]))
    np.testing.assert_array_equal(to_rgb(image, channels=[1]), to_rgb(image[..., 1]))
    swapped = to_rgb(image, channels=[1, 0, 2])
    np.testing.assert_array_equal(swapped, image[..., [1, 0, 2]])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.array([1, 0]), [1, 0]),
        (np.array([2], np.uint8), [2]),
        (np.array(1), 1),
        (np.int32(1), 1),
        ({"red": np.int64(1)}, {"red": 1}),
        (range(3), [0, 1, 2]),
    ],
)
def test_indices_may_be_numpys(given: Any, same: Any) -> None:
    image = np.random.default_rng(3).integers(0, 999, (9, 9, 3), dtype=np.uint16)
    np.testing.assert_array_equal(to_rgb(image, channels=given), to_rgb(image, channels=same))


def test_limits_for_each_channel() -> None:
    image = np.full((2, 3, 3), 10, np.uint16)
    result = to_rgb(image, channels=[0, 1], limits=[(0, 10), (0, 20)])
    assert tuple(result[0, 0]) == (255, 128, 0)


def test_a_channel_without_finite_values_is_black() -> None:
    image = np.stack([ramp(np.float32), np.full((64, 64), np.nan, np.float32)])
    result = to_rgb(image)
    assert result[..., 0].max() == 255
    assert (result[..., 1] == 0).all()


def test_channel_axis_may_be_given() -> None:
    image = np.random.default_rng(1).integers(0, 256, (5, 3, 4), dtype=np.uint8)
    assert to_rgb(image, channels=0, channel_axis=1).shape == (5, 4, 3)
    assert to_rgb(image, channels=0, channel_axis=-3).shape == (3, 4, 3)


def test_many_channels_need_a_mapping() -> None:
    with pytest.raises(UnusableImageError, match=r"at most 4 channels, first or last.*channels="):
        to_rgb(np.zeros((12, 40, 40)))
    with pytest.raises(UnusableImageError, match=r"at most 4 channels, got 5; say which"):
        to_rgb(np.zeros((5, 40, 40)), channel_axis=0)


def test_four_channels_first_are_not_taken_for_rgba() -> None:
    with pytest.raises(UnusableImageError, match="RGBA only where the channel axis is the last"):
        to_rgb(np.zeros((4, 40, 40)))


@pytest.mark.parametrize(
    ("channels", "got"),
    [
        ("red", "'red'"),
        (["red", "green"], "'red'"),
        ({"red": "DAPI"}, "'DAPI'"),
        ({0: "red"}, "'red'"),
        (1.0, "1.0"),
        (np.array([0.0, 1.0]), "0.0"),
        (np.array([[0, 1]]), r"\[0, 1\]"),
        ([np.array([0, 1])], r"array\(\[0, 1\]\)"),
        (np.array([True, False]), "True"),
    ],
)
def test_what_is_no_index_of_a_channel_is_named(channels: Any, got: str) -> None:
    with pytest.raises(TypeError, match=rf"channels must be an index, .* colours .*; got {got} fo"):
        to_rgb(np.zeros((8, 8, 3), np.uint8), channels=channels)


def test_names_of_channels_become_indices() -> None:
    names = ["DAPI", "GFP", "dapi"]
    assert channel_indices({"blue": "dapi", "red": 2}, names) == {"blue": 0, "red": 2}
    assert channel_indices(["gfp", 0], names) == [1, 0]


@pytest.mark.parametrize(("names", "listed"), [(["DAPI", "GFP"], "DAPI, GFP"), ([], "none")])
def test_unknown_names_of_channels(names: list[str], listed: str) -> None:
    with pytest.raises(ValueError, match=f"no channel is named 'RFP'; .*: {listed}"):
        channel_indices(["RFP"], names)
