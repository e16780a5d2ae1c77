"""The model under segment_anything's interface: parts, the batched call, sharing."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.model.inference.compat.small_sam import assert_same

from sam_plugins import ResizeLongestSide, SamPredictor
from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.compat import SamModel
from sam_plugins.model.inference.loading import Model

Picture = npt.NDArray[np.uint8]


def record(image: Picture, **prompts: torch.Tensor) -> dict[str, Any]:
    """One picture of a batch."""
    resized = ResizeLongestSide(256).apply_image(image)
    tensor = torch.as_tensor(resized).permute(2, 0, 1).contiguous()
    return {"image": tensor, "original_size": image.shape[:2], **prompts}


@pytest.mark.parametrize("multimask", [True, False])
def test_the_batched_call(
    ours: SamModel, theirs: Any, landscape: Picture, portrait: Picture, multimask: bool
) -> None:
    boxes = torch.tensor([[20.0, 20, 150, 120], [5, 60, 90, 170], [100, 1, 250, 100]])
    mask = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 4
    batch = [
        record(landscape, boxes=boxes),
        record(
            portrait, point_coords=torch.tensor([[[40.0, 90.0]]]), point_labels=torch.tensor([[1]])
        ),
        record(portrait, mask_inputs=mask, boxes=boxes[:1]),
    ]
    answers = ours(batch, multimask_output=multimask)
    assert answers[0]["masks"].shape == (3, 3 if multimask else 1, 200, 290)
    assert answers[0]["masks"].any()
    assert_same(answers, theirs(batch, multimask_output=multimask))


def test_the_parts_one_by_one(ours: SamModel, theirs: Any, landscape: Picture) -> None:
    """The calls of programs that train or export SAM."""
    points = torch.tensor([[[40.0, 90.0], [10, 20]]]), torch.tensor([[1, 0]])
    answers = []
    with torch.no_grad():
        for sam in (ours, theirs):
            padded = sam.preprocess(torch.as_tensor(record(landscape)["image"])[None])
            embedding = sam.image_encoder(padded)
            sparse, dense = sam.prompt_encoder(points=points, boxes=None, masks=None)
            masks, scores = sam.mask_decoder(
                image_embeddings=embedding,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            full = sam.postprocess_masks(masks, input_size=(177, 256), original_size=(200, 290))
            answers.append((padded, embedding, sparse, dense, masks, scores, full))
    assert_same(answers[0], answers[1])


def test_attributes_of_the_parts(ours: SamModel, theirs: Any) -> None:
    for sam in (ours, theirs):
        assert sam.image_format == "RGB"
        assert sam.mask_threshold == 0.0
        assert sam.image_encoder.img_size == 256
        assert sam.prompt_encoder.embed_dim == 64
        assert tuple(sam.prompt_encoder.image_embedding_size) == (16, 16)
        assert tuple(sam.prompt_encoder.input_image_size) == (256, 256)
        assert tuple(sam.prompt_encoder.mask_input_size) == (64, 64)
        assert sam.prompt_encoder.num_point_embeddings == 4
        assert sam.mask_decoder.num_mask_tokens == 4
        assert sam.mask_decoder.num_multimask_outputs == 3
        assert sam.mask_decoder.transformer_dim == 64
        assert sam.device == torch.device("cpu")
        assert not sam.training
    places = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(0))
    mine, other = ours.prompt_encoder.pe_layer, theirs.prompt_encoder.pe_layer
    assert_same(mine((4, 6)), other((4, 6)), 1e-5)
    assert_same(mine._pe_encoding(places), other._pe_encoding(places), 1e-5)
    assert_same(
        mine.forward_with_coords(places * 9, (9, 12)),
        other.forward_with_coords(places * 9, (9, 12)),
        1e-5,
    )


def test_the_official_export_wraps_our_model(
    official: ModuleType, ours: SamModel, theirs: Any, inputs: dict[str, torch.Tensor]
) -> None:
    from segment_anything.utils.onnx import SamOnnxModel

    answers = [SamOnnxModel(sam, return_single_mask=True)(**inputs) for sam in (ours, theirs)]
    assert_same(answers[0], answers[1])


def test_weights_have_the_official_names(ours: SamModel, theirs: Any) -> None:
    assert list(ours.state_dict()) == list(theirs.state_dict())
    names = {name for name, _ in ours.named_parameters()}
    assert names == {name for name, _ in theirs.named_parameters()}
    ours.load_state_dict(theirs.state_dict())
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_both_faces_of_a_part_are_one(ours: SamModel, landscape: Picture) -> None:
    double = ours.to(torch.float64)
    assert double is ours
    assert ours.network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == (
        torch.float64
    )
    assert next(ours.network.parameters()).dtype == torch.float64
    ours.float().train()
    assert ours.network.image_encoder.training
    ours.eval()
    assert not ours.network.image_encoder.training


def test_a_copy_shares_nothing(ours: SamModel, landscape: Picture) -> None:
    twin = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert next(twin.network.parameters()).abs().sum() == 0
    assert next(ours.network.parameters()).abs().sum() > 0
    assert next(ours.parameters()).abs().sum() > 0


def test_a_part_that_a_program_exchanged_is_used(ours: SamModel, landscape: Picture) -> None:
    class Zeros(torch.nn.Module):
        img_size = 256

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(1, 64, 16, 16)

    ours.image_encoder = Zeros()  # type: ignore[assignment]
    predictor = SamPredictor(ours)
    predictor.set_image(landscape)
    assert not predictor.get_image_embedding().any()


@pytest.mark.parametrize("multimask", [True, False])
def test_one_picture_for_each_prompt(ours: SamModel, multimask: bool) -> None:
    embeddings = torch.randn(2, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[20.0, 20, 150, 120], [5, 60, 90, 170]])

    def decode(which: slice) -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = ours.prompt_encoder(points=None, boxes=boxes[which], masks=None)
        answer: tuple[torch.Tensor, torch.Tensor] = ours.mask_decoder(
            image_embeddings=embeddings[which],
            image_pe=ours.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return answer

    with torch.no_grad():
        together = decode(slice(0, 2))
        for index in range(2):
            alone = decode(slice(index, index + 1))
            assert_same([part[index] for part in together], [part[0] for part in alone])


def test_the_batched_call_with_any_of_our_models(any_model: Model, picture: Picture) -> None:
    sam = SamModel(any_model)
    transform = SamPredictor(sam).transform
    resized = torch.as_tensor(transform.apply_image(picture)).permute(2, 0, 1)
    boxes = transform.apply_boxes_torch(torch.tensor([[5, 5, 60, 50], [9, 9, 40, 40]]), (60, 90))
    (answer,) = sam(
        [{"image": resized, "original_size": (60, 90), "boxes": boxes}], multimask_output=False
    )
    predictor = SamPredictor(sam)
    predictor.set_image(picture)
    masks, scores, _ = predictor.predict_torch(None, None, boxes, multimask_output=False)
    assert_same(answer["masks"], masks)
    assert_same(answer["iou_predictions"], scores)


# ------------------------------------------------------------------------------------- refusals


def test_pictures_without_a_key(ours: SamModel, landscape: Picture) -> None:
    with pytest.raises(ValueError, match=r"batched_input\[0\] must have 'image', 'original_size'"):
        ours([{"image": torch.zeros(3, 9, 9)}], multimask_output=False)
    without = record(landscape, point_coords=torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="'point_labels' is missing"):
        ours([without], multimask_output=False)


def test_pictures_that_are_too_large(ours: SamModel) -> None:
    with pytest.raises(ValueError, match="fit into 256 x 256 pixels, got 257 x 10; resize it"):
        ours.preprocess(torch.zeros(3, 257, 10))


def test_more_pictures_than_prompts(ours: SamModel) -> None:
    with pytest.raises(ValueError, match="one for each of 1 prompts, got 2"):
        ours.mask_decoder.predict_masks(
            torch.zeros(2, 64, 16, 16),
            ours.prompt_encoder.get_dense_pe(),
            torch.zeros(1, 2, 64),
            torch.zeros(1, 64, 16, 16),
        )


def test_parts_that_pass_on_more_than_those_of_sam(tiny_model: Model) -> None:
    sam = SamModel(tiny_model)
    with pytest.raises(UnsuitableModelError, match="cannot be called one by one: use SamPredictor"):
        sam.prompt_encoder(points=None, boxes=torch.zeros(1, 4), masks=None)
    with pytest.raises(UnsuitableModelError, match="cannot be called one by one: use SamPredictor"):
        sam.mask_decoder(
            torch.zeros(1, 32, 4, 4),
            sam.prompt_encoder.get_dense_pe(),
            torch.zeros(1, 2, 32),
            torch.zeros(1, 32, 4, 4),
            multimask_output=True,
        )
