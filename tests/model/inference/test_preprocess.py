"""The encoder's input, against the arithmetic of the official code."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sam_plugins.errors import UnusableImageError
from sam_plugins.model.inference.preprocess import (
    normalise_and_pad,
    padded_size_hw,
    prepare_input,
    resize_rgb,
    resized_size_hw,
)
from sam_plugins.model.networks.config import Preprocessing

SAM = Preprocessing()
SMALL = Preprocessing(min_long_side=768, max_long_side=1024, max_enlargement=2.0, pad_to=32)


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 6000), st.integers(1, 6000))
def test_sam_sizes_as_the_official_code_computes_them(height: int, width: int) -> None:
    scale = 1024 * 1.0 / max(height, width)
    official = int(height * scale + 0.5), int(width * scale + 0.5)
    assert resized_size_hw((height, width), SAM) == (max(1, official[0]), max(1, official[1]))
    assert padded_size_hw(official, SAM) == (1024, 1024)


@pytest.mark.parametrize(
    ("size_hw", "resized", "padded"),
    [
        ((100, 200), (200, 400), (224, 416)),  # never more than twice
        ((500, 400), (768, 614), (768, 640)),
        ((900, 800), (900, 800), (928, 800)),  # within the range: as it is
        ((3000, 1500), (1024, 512), (1024, 512)),
        ((1, 5000), (1, 1024), (32, 1024)),
        ((1, 1), (2, 2), (32, 32)),
    ],
)
def test_sizes_of_the_shipped_model(
    size_hw: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
) -> None:
    assert resized_size_hw(size_hw, SMALL) == resized
    assert padded_size_hw(resized, SMALL) == padded


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_stay_in_their_range(height: int, width: int) -> None:
    longer = max(resized_size_hw((height, width), SMALL))
    assert longer <= 1024
    assert longer <= 2 * max(height, width)
    assert longer >= min(768, 2 * max(height, width))


@pytest.mark.parametrize("size_hw", [(60, 90), (1100, 300), (1024, 700)])
def test_the_input_as_the_official_code_computes_it(size_hw: tuple[int, int]) -> None:
    rgb = picture(*size_hw)
    tensor, input_size_hw = prepare_input(rgb, SAM)
    resized = np.array(Image.fromarray(rgb).resize(input_size_hw[::-1], Image.Resampling.BILINEAR))
    expected = torch.zeros(1, 3, 1024, 1024)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    values = (torch.as_tensor(resized).permute(2, 0, 1) - mean) / std
    expected[0, :, : input_size_hw[0], : input_size_hw[1]] = values
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, expected)


def test_the_resize_of_the_official_package(official: ModuleType) -> None:
    rgb = picture(300, 777)
    theirs = official.utils.transforms.ResizeLongestSide(1024).apply_image(rgb)
    np.testing.assert_array_equal(resize_rgb(rgb, resized_size_hw((300, 777), SAM)), theirs)


def test_padding_is_zero_and_only_at_the_bottom_and_the_right() -> None:
    tensor, (height, width) = prepare_input(picture(100, 150), SMALL)
    assert tensor.shape == (1, 3, 224, 320)
    assert (height, width) == (200, 300)
    assert not tensor[..., height:, :].any()
    assert not tensor[..., width:].any()


def test_a_picture_of_the_right_size_is_not_resampled() -> None:
    rgb = picture(800, 640)
    tensor, _ = prepare_input(rgb, SMALL)
    back = tensor[0] * torch.tensor(SMALL.pixel_std)[:, None, None]
    back += torch.tensor(SMALL.pixel_mean)[:, None, None]
    np.testing.assert_allclose(back.permute(1, 2, 0).numpy(), rgb, atol=1e-3)


def test_read_only_pictures_are_accepted() -> None:
    rgb = picture(768, 768)
    rgb.setflags(write=False)
    prepare_input(rgb, SMALL)


@pytest.mark.parametrize(
    "image",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32)],
)
def test_only_8_bit_rgb(image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"rgb must be of shape \(H, W, 3\) and type uint8, got"):
        prepare_input(image, SAM)


def test_pictures_without_pixels() -> None:
    with pytest.raises(UnusableImageError, match=r"picture with pixels, got a size of 0 x 5"):
        prepare_input(np.zeros((0, 5, 3), np.uint8), SAM)


def test_too_large_for_the_square() -> None:
    with pytest.raises(ValueError, match=r"must fit into 1024 x 1024, got 2000 x 10; resize"):
        normalise_and_pad(torch.zeros(1, 3, 2000, 10), SAM)
