"""The shipped model's encoder: strides, any size, and what moves with the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sam_plugins.model.networks.config import SHIPPED, PyramidConfig
from sam_plugins.model.networks.image_encoder_pyramid import (
    BasicBlock,
    PyramidImageEncoder,
)
from sam_plugins.model.networks.layers import ContextBlock

SMALL = PyramidConfig(
    stage_dims=(8, 12, 16, 20),
    stage_depths=(1, 1, 1, 1),
    context_depth=0,
    skip_dims=(10, 6),
    out_dim=32,
)


def make(config: PyramidConfig) -> PyramidImageEncoder:
    torch.manual_seed(0)
    return PyramidImageEncoder(config).eval()


@pytest.mark.parametrize("size_hw", [(64, 64), (32, 96), (96, 32)])
def test_maps_at_strides_16_8_and_4(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    features = make(SMALL)(torch.zeros(2, 3, *size_hw))
    assert features.embedding.shape == (2, 32, height // 16, width // 16)
    assert [skip.shape for skip in features.skips] == [
        (2, 10, height // 8, width // 8),
        (2, 6, height // 4, width // 4),
    ]


def test_the_shipped_encoder_has_the_maps_that_its_decoder_reads() -> None:
    encoder = SHIPPED.image_encoder
    assert isinstance(encoder, PyramidConfig)
    with torch.device("meta"):
        features = PyramidImageEncoder(encoder)(torch.zeros(1, 3, 1024, 768))
    assert features.embedding.shape == (1, encoder.out_dim, 64, 48)
    assert [skip.shape[1] for skip in features.skips] == list(encoder.skip_dims)


@pytest.mark.parametrize("size_hw", [(64, 48), (33, 64)])
def test_other_sizes_are_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=rf"multiples of 32, got \({size_hw[0]}, {size_hw[1]}\); pad it"
    ):
        make(SMALL)(torch.zeros(1, 3, *size_hw))


@torch.inference_mode()
def test_a_picture_moved_by_a_stride_gives_maps_moved_by_it(
    relative_error: Callable[[Tensor, Tensor], float],
) -> None:
    encoder = make(SMALL)
    picture = torch.randn(1, 3, 512, 544, generator=torch.Generator().manual_seed(1))
    here, there = encoder(picture[..., :-32]), encoder(picture[..., 32:])
    maps = zip(
        (here.embedding, *here.skips), (there.embedding, *there.skips), (16, 8, 4), strict=True
    )
    for first, second, stride in maps:
        step, edge = 32 // stride, 224 // stride  # Convolutions see the edge from 7 cells of 32.
        second = second[..., edge:-edge, edge:-edge]
        moved = first[..., edge:-edge, edge + step : first.shape[-1] - edge + step]
        still = first[..., edge:-edge, edge:-edge]
        # Not exactly: normalisation also sees the columns that came and went.
        assert relative_error(moved, second) < 0.1
        assert relative_error(still, second) > 0.5


@torch.inference_mode()
def test_far_away_pixels_are_seen_through_the_context() -> None:
    encoder = make(replace(SMALL, context_depth=3))
    picture = torch.zeros(1, 3, 256, 256)
    changed = picture.clone()
    changed[..., :8, :8] = 3
    difference = (encoder(changed).embedding - encoder(picture).embedding).abs().amax(1)
    assert float(difference[0, -1, -1]) > 0


@torch.inference_mode()
@pytest.mark.parametrize("block", [BasicBlock, ContextBlock])
def test_blocks_are_residual(block: type[BasicBlock] | type[ContextBlock]) -> None:
    torch.manual_seed(0)
    layer = block(6).eval()
    x = torch.randn(2, 6, 9, 7)
    if isinstance(layer, BasicBlock):
        branch = layer.conv2(functional.gelu(layer.conv1(layer.norm(x))))
    else:
        branch = layer.reduce(functional.gelu(layer.expand(layer.norm(layer.depthwise(x)))))
    torch.testing.assert_close(layer(x), x + 0.5 * branch)  # 0.5: a fresh scale.


def test_later_blocks_are_dropped_more_often() -> None:
    encoder = PyramidImageEncoder(
        replace(SMALL, stage_depths=(2, 1, 1, 1), context_depth=2, drop_path=0.6)
    )
    rates = [
        module.drop_path.rate
        for module in encoder.modules()
        if isinstance(module, BasicBlock | ContextBlock)
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6][:7], abs=1e-6)


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 32)])
def test_pretrained_maps_join_the_stages_once_they_are_trained(size_hw: tuple[int, int]) -> None:
    plain = make(SMALL)
    joined = make(replace(SMALL, uses_efficientnet=True))
    joined.load_state_dict(plain.state_dict(), strict=False)
    picture = torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(1))
    # At first they add nothing, so that a trained pyramid can be given them.
    assert torch.equal(joined(picture).embedding, plain(picture).embedding)

    joined(picture).embedding.square().mean().backward()
    assert joined.pretrained is not None
    gradients = [projection.weight.grad for projection in joined.pretrained.projections]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert all(one.grad is None for one in joined.pretrained.features.parameters())

    with torch.no_grad():
        for projection in joined.pretrained.projections:
            projection.weight.fill_(0.1)
        assert not torch.allclose(joined(picture).embedding, plain(picture).embedding)
