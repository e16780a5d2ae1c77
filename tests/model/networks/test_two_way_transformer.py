"""The decoder's attention against other ways to compute it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sam_plugins.model.networks.two_way_transformer import Attention, TwoWayTransformer


def attend_one_by_one(layer: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of one head of one prompt at a time, in float64."""
    layer = layer.double()
    q, k, v = (
        projection(x.double())
        for projection, x in (
            (layer.q_proj, queries),
            (layer.k_proj, keys),
            (layer.v_proj, values),
        )
    )
    width = q.shape[-1] // layer.num_heads
    out = torch.zeros_like(q)
    for prompt in range(len(q)):
        for start in range(0, q.shape[-1], width):
            own = slice(start, start + width)
            for token in range(q.shape[1]):
                scores = (k[prompt, :, own] @ q[prompt, token, own]) / math.sqrt(width)
                out[prompt, token, own] = scores.softmax(0) @ v[prompt, :, own]
    answer: Tensor = layer.out_proj(out)
    return answer


@pytest.mark.parametrize("downsample_rate", [1, 2])
def test_attention_equals_the_loop(downsample_rate: int) -> None:
    torch.manual_seed(0)
    layer = Attention(16, num_heads=4, downsample_rate=downsample_rate)
    queries, keys, values = torch.randn(2, 3, 16), 3 * torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    answer = layer(queries, keys, values)
    expected = attend_one_by_one(layer, queries, keys, values)
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=1e-6)


def test_attention_equals_that_of_pytorch() -> None:
    torch.manual_seed(0)
    layer, other = Attention(16, num_heads=4), nn.MultiheadAttention(16, 4, batch_first=True)
    weights = [layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]
    biases = [layer.q_proj.bias, layer.k_proj.bias, layer.v_proj.bias]
    other.load_state_dict(
        {
            "in_proj_weight": torch.cat(weights),
            "in_proj_bias": torch.cat(biases),
            "out_proj.weight": layer.out_proj.weight,
            "out_proj.bias": layer.out_proj.bias,
        }
    )
    queries, keys, values = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    expected = other(queries, keys, values, need_weights=False)[0]
    torch.testing.assert_close(layer(queries, keys, values), expected)


def test_large_scores_do_not_overflow() -> None:
    torch.manual_seed(0)
    layer = Attention(8, num_heads=2)
    x = 1e4 * torch.randn(1, 4, 8)
    assert bool(layer(x, x, x).isfinite().all())


def test_heads_must_divide_the_inner_width() -> None:
    with pytest.raises(ValueError, match="num_heads must divide the inner width 12, got 8"):
        Attention(24, num_heads=8, downsample_rate=2)


@pytest.fixture(scope="module")
def transformer() -> TwoWayTransformer:
    torch.manual_seed(0)
    return TwoWayTransformer(depth=2, dim=16, num_heads=4, mlp_dim=20).eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Image, its positional encoding, and tokens of three prompts."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 16, 4, 6, generator=generator),
        torch.randn(1, 16, 4, 6, generator=generator),
        torch.randn(3, 5, 16, generator=generator),
    )


def test_a_batch_equals_the_loop(
    transformer: TwoWayTransformer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    image, image_pe, tokens = inputs
    new_tokens, new_image = transformer(image, image_pe, tokens)
    assert new_tokens.shape == (3, 5, 16)
    assert new_image.shape == (3, 24, 16)
    for i in range(3):
        one_tokens, one_image = transformer(image[i : i + 1], image_pe, tokens[i : i + 1])
        torch.testing.assert_close(new_tokens[i : i + 1], one_tokens)
        torch.testing.assert_close(new_image[i : i + 1], one_image)


def test_tokens_and_cells_have_no_order_but_their_encoding(
    transformer: TwoWayTransformer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    image, image_pe, tokens = inputs
    new_tokens, new_image = transformer(image, image_pe, tokens)
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted, _ = transformer(image, image_pe, tokens[:, order])
    torch.testing.assert_close(permuted, new_tokens[:, order])
    same_tokens, turned = transformer(image.flip(-1), image_pe.flip(-1), tokens)
    torch.testing.assert_close(same_tokens, new_tokens)
    grid = turned.unflatten(1, (4, 6)).flip(2).flatten(1, 2)
    torch.testing.assert_close(grid, new_image)


def test_the_encoding_of_the_image_counts(
    transformer: TwoWayTransformer, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    image, image_pe, tokens = inputs
    with_it, _ = transformer(image, image_pe, tokens)
    without, _ = transformer(image, torch.zeros_like(image_pe), tokens)
    assert not torch.allclose(with_it, without, atol=1e-3)


@pytest.mark.parametrize(("many_first", "residual"), [(True, True), (True, False), (False, True)])
def test_moved_projections_change_nothing(many_first: bool, residual: bool) -> None:
    torch.manual_seed(0)
    layer = Attention(32, num_heads=2, downsample_rate=2)
    many, few = torch.randn(2, 40, 32), torch.randn(2, 5, 32)
    queries, keys = (many, few) if many_first else (few, many)
    values, added = torch.randn_like(keys), torch.randn_like(queries) if residual else None
    plain = layer(queries, keys, values, added)
    with torch.no_grad():
        assert layer.folds(queries.shape[1], keys.shape[1])
        moved = layer(queries, keys, values, added)
    torch.testing.assert_close(moved, plain.detach(), rtol=1e-5, atol=1e-5)


def test_projections_move_only_where_it_pays() -> None:
    layer = Attention(32, num_heads=2, downsample_rate=2)
    with torch.no_grad():
        assert layer.folds(8, 9)
        assert not layer.folds(9, 40)  # 2 heads x 9 tokens are more than 16 channels
        assert not layer.folds(8, 8)
    assert not layer.folds(8, 9)  # training
    layer.k_proj = nn.Sequential(layer.k_proj)
    with torch.no_grad():
        assert not layer.folds(8, 9)


def test_what_prompts_share_is_computed_once() -> None:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(2, 32, num_heads=2, mlp_dim=24).eval()
    image, image_pe = torch.randn(1, 32, 6, 5), torch.randn(1, 32, 6, 5)
    tokens = torch.randn(3, 5, 32)
    assert transformer.share(image, image_pe) is None  # with gradients
    with torch.no_grad():
        shared = transformer.share(image, image_pe)
        assert shared is not None
        expected = transformer(image.expand(3, -1, -1, -1), image_pe, tokens)
        for part, other in zip(transformer(shared, image_pe, tokens), expected, strict=True):
            torch.testing.assert_close(part, other, rtol=1e-5, atol=1e-5)
