"""Resizing as segment_anything does it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.model.inference.compat.small_sam import assert_same

from sam_plugins import ResizeLongestSide
from sam_plugins.model.inference.compat.transforms import ModelResize
from sam_plugins.model.networks.config import SAM_VIT_B, SHIPPED

SIZES = [(300, 420), (1200, 1800), (1, 7), (64, 64), (2001, 1333)]


@pytest.fixture
def pair(official: ModuleType) -> tuple[ResizeLongestSide, Any]:
    from segment_anything.utils.transforms import ResizeLongestSide as Theirs

    return ResizeLongestSide(256), Theirs(256)


@pytest.mark.parametrize("size", SIZES)
def test_coordinates(pair: tuple[Any, Any], size: tuple[int, int]) -> None:
    ours, theirs = pair
    points = np.random.default_rng(0).integers(0, 2000, (4, 2, 2))
    before = points.copy()
    assert_same(ours.apply_coords(points, size), theirs.apply_coords(points, size), 1e-12)
    assert_same(ours.apply_boxes(points, size), theirs.apply_boxes(points, size), 1e-12)
    tensor = torch.from_numpy(points)
    assert_same(
        ours.apply_coords_torch(tensor, size), theirs.apply_coords_torch(tensor, size), 1e-7
    )
    assert_same(ours.apply_boxes_torch(tensor, size), theirs.apply_boxes_torch(tensor, size), 1e-7)
    assert (points == before).all()
    assert ours.get_preprocess_shape(*size, 256) == theirs.get_preprocess_shape(*size, 256)


@pytest.mark.parametrize("channels", [(), (3,), (4,), (1,)])
def test_images(pair: tuple[Any, Any], channels: tuple[int, ...]) -> None:
    ours, theirs = pair
    image = np.random.default_rng(0).integers(0, 256, (300, 421, *channels), np.uint8)
    if channels == (1,):
        assert_same(ours.apply_image(image), theirs.apply_image(image[..., 0]))
    else:
        assert_same(ours.apply_image(image), theirs.apply_image(image))


def test_other_numbers_than_colours(pair: tuple[Any, Any]) -> None:
    image = np.random.default_rng(0).normal(size=(30, 60)).astype(np.float32)
    assert_same(pair[0].apply_image(image), pair[1].apply_image(image))


def test_tensors_keep_the_shape_of_the_picture() -> None:
    image = torch.rand(2, 3, 60, 90)
    resized = ResizeLongestSide(256).apply_image_torch(image)
    assert resized.shape == (2, 3, 171, 256)
    assert torch.allclose(resized.mean(), image.mean(), atol=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_of_official_models_is_theirs(size: tuple[int, int]) -> None:
    ours = ModelResize(SAM_VIT_B.preprocessing)
    assert ours.resized_size(size) == tuple(
        max(1, n) for n in ours.get_preprocess_shape(*size, 1024)
    )


def test_the_transform_of_the_shipped_model_keeps_its_own_rules() -> None:
    assert ModelResize(SHIPPED.preprocessing).resized_size((100, 200)) == (300, 600)
    assert ModelResize(SHIPPED.preprocessing).resized_size((800, 900)) == (800, 900)


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        (
            (9,),
            "uint8",
            ValueError,
            r"must have shape \(H, W, C\) with up to 4 channels.*got \(9,\)",
        ),
        ((9, 9, 5), "uint8", ValueError, r"got \(9, 9, 5\)"),
        ((9, 9, 3), "float32", TypeError, "must be of type uint8 .0 to 255., got float32"),
        ((9, 9), "float64", TypeError, "got float64; scale and convert it"),
    ],
)
def test_wrong_images(
    shape: tuple[int, ...], dtype: str, error: type[Exception], message: str
) -> None:
    image: npt.NDArray[Any] = np.zeros(shape, dtype)
    with pytest.raises(error, match=message):
        ResizeLongestSide(256).apply_image(image)


def test_wrong_tensors_sizes_and_lengths() -> None:
    with pytest.raises(ValueError, match=r"shape \(B, C, H, W\), got \(3, 9, 9\)"):
        ResizeLongestSide(256).apply_image_torch(torch.zeros(3, 9, 9))
    with pytest.raises(ValueError, match=r"the height and width of the picture.*got \(9, 9, 3\)"):
        ResizeLongestSide(256).apply_coords(np.zeros((1, 2)), (9, 9, 3))
    with pytest.raises(ValueError, match="target_length must be 1 or more, got 0"):
        ResizeLongestSide(0)
