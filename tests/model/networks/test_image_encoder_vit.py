"""Two ways through SAM's encoder that must end at the same place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks import image_encoder_vit
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.networks.image_encoder_vit import RelativeAttention


def make_attention(side: int) -> RelativeAttention:
    torch.manual_seed(0)
    layer = RelativeAttention(12, num_heads=2, side=side)
    with torch.no_grad():
        layer.rel_pos_h.normal_()
        layer.rel_pos_w.normal_()
    return layer


def attend_one_by_one(layer: RelativeAttention, x: Tensor) -> Tensor:
    """Attention of one query of one head at a time (Li et al. 2022, section 3 and appendix)."""
    side, width = layer.side, 6
    q, k, v = layer.qkv(x).flatten(0, 1).split(12, dim=1)
    out = torch.zeros(side * side, 12)
    for start in (0, 6):
        own = slice(start, start + width)
        for query in range(side * side):
            scores = torch.empty(side * side)
            for key in range(side * side):
                down, right = query // side - key // side, query % side - key % side
                place = layer.rel_pos_h[down + side - 1] + layer.rel_pos_w[right + side - 1]
                scores[key] = q[query, own] @ k[key, own] / width**0.5 + q[query, own] @ place
            out[query, own] = scores.softmax(0) @ v[:, own]
    answer: Tensor = layer.proj(out).reshape(side, side, 12)
    return answer


@torch.inference_mode()
def test_attention_with_relative_positions_equals_the_loop() -> None:
    layer = make_attention(side=4)
    x = torch.randn(2, 4, 4, 12, generator=torch.Generator().manual_seed(1))
    answer = layer(x)
    for i in range(2):
        torch.testing.assert_close(answer[i], attend_one_by_one(layer, x[i]), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("max_scores", [1, 60, 100, 700, 1400, 1900])
def test_blocks_of_heads_and_queries_change_nothing(
    monkeypatch: pytest.MonkeyPatch, max_scores: int
) -> None:
    layer = make_attention(side=5)
    x = torch.randn(2, 5, 5, 12, generator=torch.Generator().manual_seed(1))
    whole = layer(x)
    monkeypatch.setattr(image_encoder_vit, "_MAX_SCORES", max_scores)
    torch.testing.assert_close(layer(x), whole, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("size_hw", [(6, 9), (7, 5), (2, 2)])
def test_windows_are_pieces_padded_with_zeros(size_hw: tuple[int, int]) -> None:
    layer = make_attention(side=3)
    x = torch.randn(2, *size_hw, 12, generator=torch.Generator().manual_seed(1))
    answer = layer.forward_windows(x)
    assert answer.shape == x.shape
    for image in range(2):
        for top in range(0, size_hw[0], 3):
            for left in range(0, size_hw[1], 3):
                part = x[image, top : top + 3, left : left + 3]
                window = torch.zeros(3, 3, 12)
                window[: part.shape[0], : part.shape[1]] = part
                expected = layer(window[None])[0, : part.shape[0], : part.shape[1]]
                found = answer[image, top : top + 3, left : left + 3]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_another_input_size_is_refused(small_configs: dict[str, SamConfig]) -> None:
    model = build_sam(small_configs["vit"])
    with pytest.raises(
        ValueError, match=r"must have shape \(B, 3, 128, 128\), got \(1, 3, 128, 160\); resize and"
    ):
        model.encode(torch.zeros(1, 3, 128, 160))
