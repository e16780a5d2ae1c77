"""Small layers against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sam_plugins.model.networks.layers import (
    ContextBlock,
    DropPath,
    LayerNorm2d,
    Mlp,
    MlpBlock,
    group_norm,
)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layer_norm_normalises_the_channels_of_every_pixel(
    memory_format: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    norm = LayerNorm2d(5, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 3, 4).to(memory_format=memory_format)
    out = norm(x)
    for image in range(2):
        for row in range(3):
            for column in range(4):
                pixel = x[image, :, row, column]
                centred = pixel - pixel.mean()
                scaled = centred / (centred.square().mean() + 1e-3).sqrt()
                expected = scaled * norm.weight + norm.bias
                torch.testing.assert_close(out[image, :, row, column], expected)


def test_a_perceptron_has_relu_between_its_layers_only() -> None:
    torch.manual_seed(0)
    mlp = Mlp(4, 6, 3, num_layers=3)
    x = torch.randn(2, 7, 4)
    first, second, third = mlp.layers
    expected = third(second(first(x).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(mlp(x), expected)
    assert [layer.weight.shape for layer in mlp.layers] == [(6, 4), (6, 6), (3, 6)]


@pytest.mark.parametrize(
    ("activation", "function"), [(nn.GELU, functional.gelu), (nn.ReLU, functional.relu)]
)
def test_a_transformer_perceptron(activation: type[nn.Module], function: object) -> None:
    torch.manual_seed(0)
    block = MlpBlock(4, 6, activation)
    x = torch.randn(2, 4)
    assert callable(function)
    torch.testing.assert_close(block(x), block.lin2(function(block.lin1(x))))


def test_dropped_paths_keep_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    drop = DropPath(0.25)
    out = drop(x)
    # A whole image is kept, enlarged by 1 / (1 - 0.25), or dropped.
    torch.testing.assert_close(out.unique(), torch.tensor([0, 4 / 3]))
    assert bool((out == out[:, :1, :1]).all())
    assert float(out.mean()) == pytest.approx(1, abs=0.05)


def test_paths_are_dropped_only_while_training() -> None:
    x = torch.randn(8, 2)
    assert DropPath(0.0)(x) is x
    assert DropPath(0.9).eval()(x) is x


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (12, 4), (7, 1)])
def test_groups_of_channels_are_normalised_over_the_picture(channels: int, groups: int) -> None:
    x = 3 + 2 * torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(0))
    out = group_norm(channels)(x).unflatten(1, (groups, -1)).flatten(2)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, groups), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(-1, unbiased=False), torch.ones(2, groups))


def test_a_context_block_is_residual() -> None:
    torch.manual_seed(0)
    block = ContextBlock(6, expansion=2, scale=0.1).eval()
    x = torch.randn(2, 6, 9, 7)
    assert block.expand.out_channels == 12
    hidden = block.expand(block.norm(block.depthwise(x)))
    torch.testing.assert_close(block(x), x + 0.1 * block.reduce(functional.gelu(hidden)))
