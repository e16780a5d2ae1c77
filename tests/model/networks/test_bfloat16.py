"""What a layer computes in bfloat16, as in training, is what it computes in float32.

Kernels can be wrong: a convolution of the drawn prompts was, on CPUs with AMX, and a whole training
ran with it. Every layer of the shipped architecture is checked with the input that it really gets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED
from sam_plugins.model.networks.layers import LayerNorm2d
from sam_plugins.model.networks.prompt_encoder import RandomFourierFeatures
from sam_plugins.model.networks.prompt_map import reduce_cells
from sam_plugins.model.networks.sam import Sam


def test_every_layer_of_the_shipped_network_agrees_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = build_sam(SHIPPED).eval()
    errors: dict[str, float] = {}

    def compare(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if torch.is_autocast_enabled("cpu"):
                return
            with torch.autocast("cpu", torch.bfloat16):
                rounded = layer(*inputs).float()
            errors[name] = float((rounded - output).norm() / output.norm())

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(compare(name))
    with torch.inference_mode():
        features = network.encode(torch.randn(1, 3, 128, 96))
        network.instances(features)
        network.decode(
            features,
            points_xy=torch.tensor([[[40.0, 50.0]]]),
            point_labels=torch.ones(1, 1, dtype=torch.long),
            mask_logits=torch.randn(1, 1, 32, 24),
        )
    assert len(errors) > 60
    wrong = {name: error for name, error in errors.items() if error > 0.03}
    assert not wrong


def test_reduced_cells_are_the_convolution() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 64, kernel_size=4, stride=4)
    x = torch.randn(2, 24, 32, 48).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = layer(x)
        torch.testing.assert_close(reduce_cells(x, layer), expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = reduce_cells(x, layer).float()
    assert float((rounded - expected).norm() / expected.norm()) < 0.02


def test_gradients_of_a_norm_over_many_rows() -> None:
    # PyTorch's own layer norm sums them in bfloat16, where they come out a quarter off.
    torch.manual_seed(0)
    x, gradient = torch.randn(40_000, 64), torch.randn(40_000, 64) + 0.01
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        norm = LayerNorm2d(64)
        rounded = x.detach().clone().to(dtype).requires_grad_()
        norm.normalise_rows(rounded).backward(gradient.to(dtype))
        found[dtype] = [norm.weight.grad, norm.bias.grad, rounded.grad]
    for exact, half in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        assert exact is not None
        assert half is not None
        assert float((half.float() - exact).norm() / exact.norm()) < 0.01


def test_positions_are_never_rounded() -> None:
    encoding = RandomFourierFeatures(8, (1.0, 16.0))
    positions = torch.rand(5, 2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoding(positions)
    assert torch.equal(rounded, encoding(positions))


def test_a_network_in_half_precision_keeps_places_exact(
    pyramid_sam: Sam, relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    half = copy.deepcopy(pyramid_sam).bfloat16()
    frequencies = half.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    assert frequencies.dtype == torch.float32
    assert torch.equal(
        frequencies, pyramid_sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    )
    prompts = {
        "points_xy": torch.tensor([[[200.5, 131.0]]]),  # bfloat16 knows 200 and 202 here.
        "point_labels": torch.ones(1, 1, dtype=torch.long),
    }
    picture = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = pyramid_sam.decode(pyramid_sam.encode(picture), **prompts)
        rounded = half.decode(half.encode(picture.bfloat16()), **prompts)
        assert rounded.logits.dtype == torch.bfloat16
        assert relative_error(rounded.logits, exact.logits) < 0.05
        tokens = half.prompt_encoder(size_hw=(16, 16), **prompts).tokens
        expected = pyramid_sam.prompt_encoder(size_hw=(16, 16), **prompts).tokens
        assert relative_error(tokens, expected) < 0.01
