"""The whole model and its decoders: many pictures and prompts at once are each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import MaskDecoderConfig, SamConfig, VitConfig
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.networks.instance_decoder import InstanceDecoder
from sam_plugins.model.networks.mask_decoder import MaskDecoder
from sam_plugins.model.networks.sam import Sam


def pictures(model: Sam, count: int = 3) -> Tensor:
    """Random input of the only size, or of another than square."""
    encoder = model.config.image_encoder
    is_square = encoder.kind != "pyramid"
    size_hw = (encoder.image_size, encoder.image_size) if is_square else (96, 128)
    return torch.randn(count, 3, *size_hw, generator=torch.Generator().manual_seed(5))


def prompts(model: Sam, count: int = 5) -> dict[str, Tensor]:
    """Points, boxes and masks of some objects, and text where the model reads it."""
    generator = torch.Generator().manual_seed(6)
    low_res_hw = [side // 4 for side in pictures(model, 1).shape[-2:]]
    given = {
        "points_xy": 90 * torch.rand(count, 2, 2, generator=generator),
        "point_labels": torch.tensor([[1, 0], [1, -1], [0, 1], [1, 1], [1, -1]])[:count],
        "boxes_xyxy": torch.tensor([[4.0, 8.0, 60.0, 40.0]]).repeat(count, 1),
        "mask_logits": 3 * torch.randn(count, 1, *low_res_hw, generator=generator),
    }
    if model.prompt_encoder.text_projection is not None:
        given["text_embeddings"] = torch.randn(count, 6, generator=generator)
    return given


def rows(values: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    return {key: value[row : row + 1] for key, value in values.items()}


@torch.inference_mode()
def test_a_batch_of_pictures_equals_the_loop(small_sam: Sam) -> None:
    images = pictures(small_sam)
    together = small_sam.encode(images)
    for i in range(len(images)):
        alone = small_sam.encode(images[i : i + 1])
        torch.testing.assert_close(
            together.embedding[i : i + 1], alone.embedding, rtol=1e-4, atol=1e-4
        )
        for many, one in zip(together.skips, alone.skips, strict=True):
            torch.testing.assert_close(many[i : i + 1], one, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_prompts_find_their_picture(small_sam: Sam) -> None:
    features, given = small_sam.encode(pictures(small_sam)), prompts(small_sam)
    image_index = torch.tensor([2, 0, 2, 1, 0])
    answer = small_sam.decode(features, **given, image_index=image_index)
    height, width = features.embedding.shape[-2:]
    assert answer.logits.shape == (5, 4, 4 * height, 4 * width)
    assert answer.iou_predictions.shape == (5, 4)
    for row, image in enumerate(image_index.tolist()):
        own = ImageFeatures(
            features.embedding[image : image + 1],
            tuple(skip[image : image + 1] for skip in features.skips),
        )
        alone = small_sam.decode(own, **rows(given, row))
        torch.testing.assert_close(answer.logits[row : row + 1], alone.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            answer.iou_predictions[row : row + 1], alone.iou_predictions, rtol=1e-4, atol=1e-4
        )


@torch.inference_mode()
@pytest.mark.parametrize(
    "part", ["points_xy", "boxes_xyxy", "mask_logits", "text_embeddings", "picture"]
)
def test_every_part_of_a_prompt_counts(small_sam: Sam, part: str) -> None:
    given, images = prompts(small_sam, 2), pictures(small_sam, 1)
    if part == "text_embeddings" and part not in given:
        with pytest.raises(ValueError, match="no text projection"):
            small_sam.decode(small_sam.encode(images), text_embeddings=torch.zeros(2, 6))
        return
    before = small_sam.decode(small_sam.encode(images), **given)
    if part == "picture":
        images = images.flip(-1)
    else:
        given[part] = given[part] + 7
    after = small_sam.decode(small_sam.encode(images), **given)
    assert float((after.logits - before.logits).abs().max()) > 1e-3
    assert float((after.iou_predictions - before.iou_predictions).abs().max()) > 1e-6


@torch.inference_mode()
def test_a_moved_origin_is_another_place(small_sam: Sam) -> None:
    features, given = small_sam.encode(pictures(small_sam, 1)), prompts(small_sam, 1)
    here = small_sam.decode(features, **given)
    there = small_sam.decode(features, **given, origin_xy=(48.0, 16.0))
    assert not torch.allclose(here.logits, there.logits, atol=1e-3)


def test_several_pictures_need_an_index(small_sam: Sam) -> None:
    features = small_sam.encode(pictures(small_sam, 2))
    with pytest.raises(ValueError, match=r"image_index must say which .* got None for 2 images"):
        small_sam.decode(features, **prompts(small_sam, 1))


def test_a_prompt_must_say_something(small_sam: Sam) -> None:
    features = small_sam.encode(pictures(small_sam, 1))
    with pytest.raises(ValueError, match="at least one of points, boxes, mask logits or text"):
        small_sam.decode(features)


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "parts",
    [("points_xy", "point_labels"), ("boxes_xyxy",), ("mask_logits",), ()],
    ids=["points", "boxes", "masks", "all"],
)
def test_no_prompts_have_no_masks(
    small_sam: Sam, parts: tuple[str, ...], count: int, with_gradients: bool
) -> None:
    given = {
        key: value[:0] for key, value in prompts(small_sam).items() if not parts or key in parts
    }
    which = torch.zeros(0, dtype=torch.int64) if count > 1 else None
    with torch.set_grad_enabled(with_gradients):
        features = small_sam.encode(pictures(small_sam, count))
        height, width = features.embedding.shape[-2:]
        for limit in (-torch.inf, 0.5):
            answer = small_sam.decode(features, **given, image_index=which, min_predicted_iou=limit)
            assert answer.logits.shape == (0, 4, 4 * height, 4 * width)
            assert answer.iou_predictions.shape == (0, 4)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes_xyxy": 3}, "points_xy of 2, point_labels of 2, boxes_xyxy of 3, mask_logits of 2"),
        ({"points_xy": 3}, "all parts must be of as many prompts N, got points_xy of 3"),
        ({"point_labels": 1}, "points_xy of 2, point_labels of 1"),
        ({"mask_logits": 1}, "mask_logits of 1"),
    ],
)
def test_parts_of_prompts_must_be_of_as_many(
    small_sam: Sam, changes: dict[str, int], message: str
) -> None:
    given, other = prompts(small_sam, 2), prompts(small_sam, 3)
    given |= {key: other[key][:count] for key, count in changes.items()}
    with pytest.raises(ValueError, match=message):
        small_sam.decode(small_sam.encode(pictures(small_sam, 1)), **given)


@torch.inference_mode()
def test_every_point_has_a_label_and_every_prompt_a_picture(small_sam: Sam) -> None:
    features, given = small_sam.encode(pictures(small_sam, 2)), prompts(small_sam, 2)
    with pytest.raises(ValueError, match=r"image_index must have shape \(2,\).*got \(3,\)"):
        small_sam.decode(features, **given, image_index=torch.tensor([0, 1, 0]))
    given["point_labels"] = given["point_labels"][:, :1]
    with pytest.raises(ValueError, match="one label for each point, got 1 labels for 2 points"):
        small_sam.decode(features, **given, image_index=torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", ["vit", "tiny_vit", "pyramid"])
def test_gradients_reach_every_weight(
    small_configs: dict[str, SamConfig], randomise: Callable[..., None], kind: str
) -> None:
    model = build_sam(small_configs[kind])
    randomise(model)
    features = model.encode(pictures(model, 2))
    given = prompts(model, 2)
    image_index = torch.tensor([0, 1])
    answers = [model.decode(features, **given, image_index=image_index)]
    point = {key: given[key] for key in ("points_xy", "point_labels")}
    answers.append(model.decode(features, **point, image_index=image_index))
    tensors = [part for answer in answers for part in answer]
    if model.instance_decoder is not None:
        tensors += model.instances(features)
    torch.stack([tensor.square().mean() for tensor in tensors]).sum().backward()
    without = [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not bool(value.grad.any())
    ]
    # Softmax does not see what is added to every score, and this bias adds the same to all.
    assert [name for name in without if not name.endswith("k_proj.bias")] == []


@torch.inference_mode()
def test_the_decoder_of_the_shipped_model_from_its_parts(pyramid_sam: Sam) -> None:
    """SAM's decoder with the finer maps and the drawing added while the embedding grows."""
    features, given = pyramid_sam.encode(pictures(pyramid_sam, 1)), prompts(pyramid_sam, 2)
    size_hw = tuple(features.embedding.shape[-2:])
    encoded = pyramid_sam.prompt_encoder(size_hw=size_hw, **given)
    decoder, image_pe = (
        pyramid_sam.mask_decoder,
        pyramid_sam.prompt_encoder.positional_encoding(size_hw),
    )
    assert decoder.skips is not None
    assert decoder.mask_scorer is not None
    drawn = encoded.drawn
    assert drawn is not None
    seen = decoder.appearance(features.skips, drawn, None)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None].repeat(2, 1, 1)
    image = decoder.fusion(features.embedding.repeat(2, 1, 1, 1) + encoded.dense)
    tokens, pixels = decoder.transformer(
        image, image_pe.repeat(2, 1, 1, 1), torch.cat([own, encoded.tokens, seen], dim=1)
    )
    x = pixels.transpose(1, 2).reshape(image.shape)
    grow_middle, norm, _, grow_fine, _ = decoder.output_upscaling
    middle, fine = decoder.skips.projections
    x = functional.gelu(norm(grow_middle(x) + middle(features.skips[0])))
    x = functional.relu(grow_fine(x) + fine(features.skips[1]) + drawn.skip)
    x = x + functional.relu(decoder.skips.refinement(x))
    mask_tokens = tokens[:, 1:5] + seen
    logits = torch.stack(
        [
            torch.einsum("nf,nfhw->nhw", mlp(mask_tokens[:, i]), x)
            for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
        ],
        dim=1,
    )
    quality = decoder.iou_prediction_head(tokens[:, 0]) + decoder.mask_scorer(
        logits, x, mask_tokens
    )
    answer = pyramid_sam.decode(features, **given)
    torch.testing.assert_close(answer.logits, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer.iou_predictions, quality.sigmoid(), rtol=1e-4, atol=1e-5)


def test_skips_need_an_encoder_that_has_them() -> None:
    config = MaskDecoderConfig(num_heads=4, uses_skips=True)
    with pytest.raises(ValueError, match="uses_skips needs an encoder with two finer maps, got 0"):
        MaskDecoder(config, dim=32)
    with pytest.raises(ValueError, match="two finer maps, got 3"):
        MaskDecoder(config, dim=32, skip_dims=(8, 8, 8))


@torch.inference_mode()
def test_instance_maps_of_a_pyramid(pyramid_sam: Sam) -> None:
    images = pictures(pyramid_sam, 2)
    features = pyramid_sam.encode(images)
    maps = pyramid_sam.instances(features)
    decoder = pyramid_sam.instance_decoder
    assert decoder is not None
    x = decoder.enter(features.skips[-1])
    x = x + decoder.middle(functional.relu(x))
    expected = decoder.leave(functional.relu(x))
    assert [part.shape for part in maps] == [(2, 1, 24, 32)] * 3
    torch.testing.assert_close(torch.cat(list(maps), dim=1), expected, rtol=1e-4, atol=1e-5)
    alone = pyramid_sam.instances(pyramid_sam.encode(images[1:]))
    torch.testing.assert_close(maps.border[1:], alone.border, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_instance_maps_of_an_embedding_alone() -> None:
    torch.manual_seed(0)
    decoder = InstanceDecoder(dim=12, skip_dims=(), hidden_dim=6)
    maps = decoder(ImageFeatures(torch.randn(2, 12, 3, 5)))
    assert [part.shape for part in maps] == [(2, 1, 12, 20)] * 3


def test_not_every_model_says_where_objects_are(small_configs: dict[str, SamConfig]) -> None:
    model = build_sam(small_configs["vit"])
    features = model.encode(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="no instance decoder: use a grid of points instead"):
        model.instances(features)


def test_parts_must_fit_each_other(small_configs: dict[str, SamConfig]) -> None:
    pyramid = small_configs["pyramid"]
    other = replace(pyramid.mask_decoder, upscale_dims=(16, 10))
    with pytest.raises(ValueError, match=r"the prompt map must be as wide as .* got 8 and 10"):
        build_sam(replace(pyramid, mask_decoder=other))
    with pytest.raises(ValueError, match="uses_skips needs an encoder with two finer maps"):
        build_sam(
            replace(pyramid, image_encoder=VitConfig(out_dim=32, depth=0), instance_decoder=None)
        )


def test_a_shape_can_be_had_without_memory(small_configs: dict[str, SamConfig]) -> None:
    for config in small_configs.values():
        with torch.device("meta"):
            model = build_sam(config)
        tensors: list[Any] = [*model.parameters(), *model.buffers()]
        assert all(tensor.is_meta for tensor in tensors if isinstance(tensor, nn.Parameter))


@torch.inference_mode()
def test_prompts_that_no_mask_passes_are_not_drawn(small_sam: Sam) -> None:
    features = small_sam.encode(pictures(small_sam, 1))
    points = {
        "points_xy": torch.tensor([[[9.0, 9.0]], [[70.0, 40.0]], [[30.0, 80.0]]]),
        "point_labels": torch.ones(3, 1, dtype=torch.int64),
    }
    several = slice(1, None)
    everything = small_sam.decode(features, **points)
    expected, best = everything.logits[:, several], everything.iou_predictions[:, several].amax(1)
    limit = float(best.median())
    answer = small_sam.decode(features, **points, which=several, min_predicted_iou=limit)
    torch.testing.assert_close(answer.iou_predictions, everything.iou_predictions[:, several])
    passes = best >= limit
    torch.testing.assert_close(answer.logits[passes], expected[passes], rtol=1e-4, atol=1e-5)
    if small_sam.mask_decoder.mask_scorer is None:
        assert (answer.logits[~passes] == -torch.inf).all()
        none = small_sam.decode(features, **points, which=several, min_predicted_iou=99)
        assert none.logits.shape == expected.shape
        assert (none.logits == -torch.inf).all()
