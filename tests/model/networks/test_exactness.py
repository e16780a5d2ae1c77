"""With the same random weights, our networks give the official answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    SAM_VIT_B,
    SAM_VIT_H,
    SAM_VIT_L,
    SamConfig,
    VitConfig,
)
from sam_plugins.model.networks.sam import Sam

TOLERANCE = 1e-5
FULL = {"vit_b": SAM_VIT_B, "vit_l": SAM_VIT_L, "vit_h": SAM_VIT_H}

Fill = Callable[..., None]
Error = Callable[[Tensor, Tensor], float]


def official_model(official: ModuleType, config: SamConfig) -> Any:
    """Build the official model with the numbers of a config."""
    modeling, encoder = official.modeling, config.image_encoder
    assert isinstance(encoder, VitConfig)
    side = encoder.image_size // 16
    return modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=encoder.image_size,
            embed_dim=encoder.embed_dim,
            depth=encoder.depth,
            num_heads=encoder.num_heads,
            global_attn_indexes=encoder.global_attention_blocks,
            norm_layer=lambda dim: nn.LayerNorm(dim, eps=1e-6),
            qkv_bias=True,
            use_rel_pos=True,
            mlp_ratio=4,
            out_chans=256,
            patch_size=16,
            window_size=14,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256,
            image_embedding_size=(side, side),
            input_image_size=(encoder.image_size, encoder.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=256,
        ),
    ).eval()


def smaller(name: str, size: int, **changes: Any) -> SamConfig:
    """A published architecture for smaller pictures."""
    config = FULL[name]
    assert isinstance(config.image_encoder, VitConfig)
    return replace(config, image_encoder=replace(config.image_encoder, image_size=size, **changes))


def both(official: ModuleType, config: SamConfig, randomise: Fill) -> tuple[Sam, Any]:
    """Our model and the official one with the same random weights, no key missing or left over."""
    theirs = official_model(official, config)
    randomise(theirs)
    ours = build_sam(config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def prompts(size: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every type of prompt and every combination of types, in the words of our model."""
    generator = torch.Generator().manual_seed(1)
    low_res = size // 4

    def points(count: int, number: int) -> Tensor:
        return torch.rand(count, number, 2, generator=generator) * (size - 1)

    def boxes(count: int) -> Tensor:
        corners = torch.rand(count, 2, 2, generator=generator) * (size - 1)
        return torch.cat([corners.amin(1), corners.amax(1)], dim=1)

    mask = torch.randn(2, 1, low_res, low_res, generator=generator) * 5
    positive = torch.ones(2, 1, dtype=torch.int64)
    mixed = torch.tensor([[1, 0, 1, -1]])
    point = {"points_xy": points(2, 1), "point_labels": positive}
    yield "a point", {"points_xy": points(1, 1), "point_labels": positive[:1]}
    yield "a negative point", {"points_xy": points(1, 1), "point_labels": 0 * positive[:1]}
    yield "points and padding", {"points_xy": points(1, 4), "point_labels": mixed}
    yield "a box", {"boxes_xyxy": boxes(1)}
    yield "boxes and points", {"boxes_xyxy": boxes(2), **point}
    yield "a mask", {"mask_logits": mask[:1]}
    yield "masks and points", {"mask_logits": mask, **point}
    yield "masks and boxes", {"mask_logits": mask, "boxes_xyxy": boxes(2)}
    yield "everything", {"mask_logits": mask, "boxes_xyxy": boxes(2), **point}
    yield (
        "many points",
        {"points_xy": points(20, 1), "point_labels": torch.ones(20, 1, dtype=torch.int64)},
    )


def official_answer(
    model: Any, embedding: Tensor, prompt: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Ask the official decoder for all four masks: the single one, and the three."""
    points = None
    if "points_xy" in prompt:
        points = (prompt["points_xy"], prompt["point_labels"])
    sparse, dense = model.prompt_encoder(
        points=points, boxes=prompt.get("boxes_xyxy"), masks=prompt.get("mask_logits")
    )
    answer: tuple[Tensor, Tensor] = model.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    return answer


@torch.inference_mode()
def errors(
    ours: Sam, theirs: Any, shapes: tuple[tuple[int, int], ...], error: Error
) -> dict[str, float]:
    """Encode pictures of some shapes and ask every prompt of the last, each side on its own."""
    generator = torch.Generator().manual_seed(2)
    size = theirs.image_encoder.img_size
    found = {}
    for shape in shapes:
        picture = torch.rand(1, 3, *shape, generator=generator) * 255
        padded = theirs.preprocess(picture)
        features, embedding = ours.encode(padded), theirs.image_encoder(padded)
        found[f"embedding of {shape}"] = error(features.embedding, embedding)
    for name, prompt in prompts(size):
        answer = ours.decode(features, **prompt)
        logits, iou = official_answer(theirs, embedding, prompt)
        found[f"logits of {name}"] = error(answer.logits, logits)
        found[f"predicted IoU of {name}"] = error(answer.iou_predictions, iou)
    return found


def test_all_of_vit_b_on_small_pictures(
    official: ModuleType, randomise: Fill, relative_error: Error
) -> None:
    ours, theirs = both(official, smaller("vit_b", 256), randomise)  # Windows need padding.
    found = errors(ours, theirs, ((256, 256), (170, 256), (256, 80)), relative_error)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("name", ["vit_l", "vit_h"])
def test_two_blocks_of_vit_l_and_h(
    official: ModuleType, randomise: Fill, relative_error: Error, name: str
) -> None:
    config = smaller(name, 256, depth=2, global_attention_blocks=(1,))
    ours, theirs = both(official, config, randomise)
    found = errors(ours, theirs, ((200, 256),), relative_error)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.slow
@pytest.mark.timeout(3600)  # ViT-H is 6 TFLOP for each side.
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("vit_b", ((1024, 1024), (683, 1024))),
        ("vit_l", ((683, 1024),)),
        ("vit_h", ((1024, 700),)),
    ],
)
def test_full_size(
    official: ModuleType,
    randomise: Fill,
    relative_error: Error,
    name: str,
    shapes: tuple[tuple[int, int], ...],
) -> None:
    ours, theirs = both(official, FULL[name], randomise)
    found = errors(ours, theirs, shapes, relative_error)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_names_and_shapes_are_the_official_ones(official: ModuleType, name: str) -> None:
    with torch.device("meta"):
        theirs = official.sam_model_registry[name]()
        ours = build_sam(FULL[name])
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}


def test_a_batch_of_pictures_and_their_prompts_equals_the_loop(
    official: ModuleType, randomise: Fill, relative_error: Error
) -> None:
    config = smaller("vit_b", 224, depth=2, global_attention_blocks=(1,))
    ours, theirs = both(official, config, randomise)
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(4))
    image_index = torch.tensor([1, 0])
    prompt = dict(prompts(224))["everything"]
    with torch.inference_mode():
        answer = ours.decode(ours.encode(pictures), **prompt, image_index=image_index)
        for row, image in enumerate(image_index.tolist()):
            embedding = theirs.image_encoder(pictures[image : image + 1])
            own = {key: value[row : row + 1] for key, value in prompt.items()}
            logits, iou = official_answer(theirs, embedding, own)
            assert relative_error(answer.logits[row : row + 1], logits) < TOLERANCE
            assert relative_error(answer.iou_predictions[row : row + 1], iou) < TOLERANCE
