"""Prompts to tokens: types, places, padding, and what a prompt must be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.prompt_encoder import (
    EncodedPrompts,
    PromptEncoder,
    RandomFourierFeatures,
)

SIZE_HW = (6, 8)


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    """SAM's, with text."""
    torch.manual_seed(0)
    return PromptEncoder(16, 128, mask_in_dim=8, text_dim=5).eval()


@pytest.fixture(scope="module")
def drawing_encoder() -> PromptEncoder:
    """The shipped model's."""
    torch.manual_seed(0)
    return PromptEncoder(16, 128, prompt_map_dims=(6, 4)).eval()


def parts_of(encoded: EncodedPrompts) -> list[Tensor]:
    """Return the tensors: tokens, dense embedding, and those of the drawing."""
    drawn = encoded.drawn
    return [encoded.tokens, encoded.dense, *([] if drawn is None else [drawn.skip, drawn.regions])]


def encoding_of(encoder: PromptEncoder, x: float, y: float) -> Tensor:
    """Fourier features of one place in pixels from the corner, one frequency at a time."""
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
    u, v = 2 * x / encoder.image_size - 1, 2 * y / encoder.image_size - 1
    angles = [2 * math.pi * float(u * matrix[0, i] + v * matrix[1, i]) for i in range(8)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def test_tokens_are_places_and_kinds(encoder: PromptEncoder) -> None:
    points = torch.tensor([[[3.0, 7.0], [100.25, 20.0], [5.0, 5.0]]])
    labels = torch.tensor([[1, 0, -1]])
    tokens = encoder(size_hw=SIZE_HW, points_xy=points, point_labels=labels).tokens[0]
    kinds = encoder.point_embeddings
    padding = encoder.not_a_point_embed.weight[0]
    expected = [
        encoding_of(encoder, 3.5, 7.5) + kinds[1].weight[0],
        encoding_of(encoder, 100.75, 20.5) + kinds[0].weight[0],
        padding,
        padding,  # In the place of a box.
    ]
    torch.testing.assert_close(tokens, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_boxes_are_two_corners_after_the_points(encoder: PromptEncoder) -> None:
    tokens = encoder(
        size_hw=SIZE_HW,
        points_xy=torch.tensor([[[1.0, 2.0]]]),
        point_labels=torch.tensor([[1]]),
        boxes_xyxy=torch.tensor([[10.0, 20.0, 30.0, 40.0]]),
    ).tokens[0]
    kinds = encoder.point_embeddings
    expected = [
        encoding_of(encoder, 1.5, 2.5) + kinds[1].weight[0],
        encoding_of(encoder, 10.5, 20.5) + kinds[2].weight[0],
        encoding_of(encoder, 30.5, 40.5) + kinds[3].weight[0],
    ]
    torch.testing.assert_close(tokens, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_cells_are_encoded_at_their_centres(encoder: PromptEncoder) -> None:
    encoding = encoder.positional_encoding(SIZE_HW)
    assert encoding.shape == (1, 16, *SIZE_HW)
    expected = encoding_of(encoder, 16 * 7.5, 16 * 2.5)
    torch.testing.assert_close(encoding[0, :, 2, 7], expected, rtol=1e-4, atol=1e-5)


def test_the_origin_moves_every_place(encoder: PromptEncoder) -> None:
    points, labels = torch.tensor([[[3.0, 7.0]], [[9.0, 1.0]]]), torch.tensor([[1], [0]])
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 9.0]])
    origin = (32.0, 16.0)
    moved = encoder(
        size_hw=SIZE_HW,
        points_xy=points,
        point_labels=labels,
        boxes_xyxy=boxes,
        origin_xy=origin,
    )
    shift = torch.tensor(origin)
    direct = encoder(
        size_hw=SIZE_HW,
        points_xy=points + shift,
        point_labels=labels,
        boxes_xyxy=boxes + shift.repeat(2),
    )
    torch.testing.assert_close(moved.tokens, direct.tokens, rtol=1e-4, atol=1e-5)
    part = encoder.positional_encoding((2, 3), origin)
    whole = encoder.positional_encoding((3, 5))
    torch.testing.assert_close(part, whole[..., 1:, 2:], rtol=1e-4, atol=1e-5)


def test_text_is_one_more_token(encoder: PromptEncoder) -> None:
    assert encoder.text_projection is not None
    text = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    projected = encoder.text_projection(text)[:, None]
    alone = encoder(size_hw=SIZE_HW, text_embeddings=text)
    torch.testing.assert_close(alone.tokens, projected)
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    both = encoder(size_hw=SIZE_HW, text_embeddings=text, boxes_xyxy=boxes)
    torch.testing.assert_close(both.tokens[:, 2:], projected)
    without = encoder(size_hw=SIZE_HW, boxes_xyxy=boxes)
    torch.testing.assert_close(both.tokens[:, :2], without.tokens)


def test_masks_are_dense_and_have_no_token(encoder: PromptEncoder) -> None:
    logits = torch.randn(2, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    encoded = encoder(size_hw=SIZE_HW, mask_logits=logits)
    assert encoded.tokens.shape == (2, 0, 16)
    assert encoded.dense.shape == (2, 16, *SIZE_HW)
    one = encoder(size_hw=SIZE_HW, mask_logits=logits[1:])
    torch.testing.assert_close(encoded.dense[1:], one.dense)
    point = encoder(size_hw=SIZE_HW, points_xy=torch.zeros(2, 1, 2), point_labels=torch.ones(2, 1))
    empty = encoder.no_mask_embed.weight[0]
    torch.testing.assert_close(point.dense[1, :, 3, 4], empty)
    assert point.drawn is None


@pytest.mark.parametrize("which", ["encoder", "drawing_encoder"])
def test_a_batch_equals_the_loop(which: str, request: pytest.FixtureRequest) -> None:
    model: PromptEncoder = request.getfixturevalue(which)
    generator = torch.Generator().manual_seed(0)
    given = {
        "points_xy": 90 * torch.rand(3, 2, 2, generator=generator),
        "point_labels": torch.tensor([[1, 0], [1, -1], [0, 0]]),
        "boxes_xyxy": torch.tensor([[1.0, 2.0, 30.0, 40.0]] * 3),
        "mask_logits": torch.randn(3, 1, 24, 32, generator=generator),
    }
    batch = model(size_hw=SIZE_HW, **given)
    for i in range(3):
        one = model(size_hw=SIZE_HW, **{k: v[i : i + 1] for k, v in given.items()})
        for together, alone in zip(parts_of(batch), parts_of(one), strict=True):
            torch.testing.assert_close(together[i : i + 1], alone)


def test_a_drawing_encoder_has_no_use_for_padding(drawing_encoder: PromptEncoder) -> None:
    points, labels = torch.tensor([[[30.0, 40.0]]]), torch.tensor([[1]])
    plain = drawing_encoder(size_hw=SIZE_HW, points_xy=points, point_labels=labels)
    padded = drawing_encoder(
        size_hw=SIZE_HW,
        points_xy=torch.cat([points, torch.tensor([[[70.0, 10.0]]])], dim=1),
        point_labels=torch.tensor([[1, -1]]),
    )
    for one, other in zip(parts_of(padded)[1:], parts_of(plain)[1:], strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(padded.tokens[:, :2], plain.tokens)
    assert plain.drawn is not None
    assert plain.drawn.skip.shape == (1, 6, 24, 32)
    assert plain.drawn.regions.shape == (1, 5, 24, 32)


def test_frequencies_are_spread_when_asked() -> None:
    torch.manual_seed(0)
    plain = RandomFourierFeatures(4000).positional_encoding_gaussian_matrix
    assert float(plain.std()) == pytest.approx(1, abs=0.05)
    spread = RandomFourierFeatures(4000, (1, 16)).positional_encoding_gaussian_matrix
    assert float(spread[:, :200].std()) == pytest.approx(1, rel=0.15)
    assert float(spread[:, -200:].std()) == pytest.approx(16, rel=0.15)


def test_a_prompt_must_say_something(encoder: PromptEncoder) -> None:
    with pytest.raises(ValueError, match="at least one of points, boxes, mask logits or text"):
        encoder(size_hw=SIZE_HW)


@pytest.mark.parametrize("given", ["points_xy", "point_labels"])
def test_points_and_labels_belong_together(encoder: PromptEncoder, given: str) -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    value = torch.zeros(1, 1, 2) if given == "points_xy" else torch.ones(1, 1)
    with pytest.raises(ValueError, match="points_xy and point_labels must be given together"):
        encoder(size_hw=SIZE_HW, boxes_xyxy=boxes, **{given: value})


def test_text_needs_a_projection(drawing_encoder: PromptEncoder) -> None:
    with pytest.raises(ValueError, match="no text projection: give points, boxes or masks"):
        drawing_encoder(size_hw=SIZE_HW, text_embeddings=torch.zeros(1, 5))
