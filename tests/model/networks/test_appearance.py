"""What lies under prompts, pooled one prompt and one region at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.appearance import AppearanceToken
from sam_plugins.model.networks.prompt_map import NUM_REGIONS, DrawnPrompts


@pytest.fixture(scope="module")
def layer() -> AppearanceToken:
    torch.manual_seed(0)
    return AppearanceToken(8, skip_dims=(3, 5))


@pytest.fixture(scope="module")
def skips() -> tuple[Tensor, Tensor]:
    """Maps of three images at strides 8 and 4."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 3, 4, 6, generator=generator),
        torch.randn(3, 5, 8, 12, generator=generator),
    )


@pytest.fixture(scope="module")
def regions() -> Tensor:
    """Weights of four prompts, one region of one of them empty."""
    regions = torch.rand(4, NUM_REGIONS, 8, 12, generator=torch.Generator().manual_seed(2))
    regions[1, 2] = 0
    return regions


def drawn(regions: Tensor, corners_yx: tuple[tuple[int, int], ...] | None = None) -> DrawnPrompts:
    """Drawn prompts of which only the regions are read."""
    return DrawnPrompts(torch.empty(0), torch.empty(0), regions, corners_yx)


def pooled_one_by_one(skips: tuple[Tensor, ...], regions: Tensor, images: list[int]) -> Tensor:
    """Weighted means of pixels, as loops."""
    rows = []
    for prompt, image in enumerate(images):
        parts = []
        for skip in skips:
            factor = regions.shape[-1] // skip.shape[-1]
            for region in regions[prompt]:
                total, weight_sum = torch.zeros(skip.shape[1]), 0.1
                for row in range(skip.shape[2]):
                    for column in range(skip.shape[3]):
                        cell = region[
                            row * factor : (row + 1) * factor,
                            column * factor : (column + 1) * factor,
                        ]
                        weight = float(cell.mean())
                        total = total + weight * skip[image, :, row, column]
                        weight_sum += weight
                parts.append(total / weight_sum)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def test_a_token_is_made_of_means_under_the_regions(
    layer: AppearanceToken, skips: tuple[Tensor, Tensor], regions: Tensor
) -> None:
    images = [2, 0, 2, 1]
    token = layer(skips, drawn(regions), torch.tensor(images))
    assert token.shape == (4, 1, 8)
    expected = layer.project(pooled_one_by_one(skips, regions, images))
    torch.testing.assert_close(token[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_one_image_needs_no_index(
    layer: AppearanceToken, skips: tuple[Tensor, Tensor], regions: Tensor
) -> None:
    one = (skips[0][1:2], skips[1][1:2])
    token = layer(one, drawn(regions), None)
    zeros = torch.zeros(4, dtype=torch.int64)
    torch.testing.assert_close(token, layer(one, drawn(regions), zeros))
    index = torch.tensor([1, 1, 1, 1])  # Images without any prompt lie around it.
    torch.testing.assert_close(token, layer(skips, drawn(regions), index))


def test_a_window_of_the_regions_is_enough(
    layer: AppearanceToken, skips: tuple[Tensor, Tensor]
) -> None:
    generator = torch.Generator().manual_seed(3)
    windows = torch.rand(3, NUM_REGIONS, 4, 8, generator=generator)
    corners = ((0, 4), (4, 0), (4, 4))
    whole = torch.zeros(3, NUM_REGIONS, 8, 12)
    for one, window, (y, x) in zip(whole, windows, corners, strict=True):
        one[:, y : y + 4, x : x + 8] = window
    for maps, index in ((skips, torch.tensor([2, 0, 1])), ((skips[0][:1], skips[1][:1]), None)):
        expected = layer(maps, drawn(whole), index)
        torch.testing.assert_close(layer(maps, drawn(windows, corners), index), expected)


def test_gradients_reach_the_pixels_of_every_image_that_was_asked(
    layer: AppearanceToken, skips: tuple[Tensor, Tensor], regions: Tensor
) -> None:
    leaves = tuple(skip.clone().requires_grad_() for skip in skips)
    layer(leaves, drawn(regions), torch.tensor([2, 0, 2, 0])).square().sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        asked = leaf.grad.flatten(1).abs().amax(1) > 0
        assert asked.tolist() == [True, False, True]


def test_features_in_half_precision(
    layer: AppearanceToken, skips: tuple[Tensor, Tensor], regions: Tensor
) -> None:
    index = torch.tensor([0, 1, 2, 0])
    exact = layer(skips, drawn(regions), index)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(tuple(skip.bfloat16() for skip in skips), drawn(regions), index)
    torch.testing.assert_close(half.float(), exact, rtol=0.1, atol=0.02)
