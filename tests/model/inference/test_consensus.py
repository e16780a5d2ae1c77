"""What several masks of one prompt agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.inference.consensus import weighed
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.prompts import Prompts
from sam_plugins.model.networks.mask_decoder import MaskOutput


def masks(*rows: list[float]) -> torch.Tensor:
    """Return masks (1, C, 1, w), each given as one row."""
    return torch.tensor(rows, dtype=torch.float32)[None, :, None, :]


def test_two_masks_that_agree_outvote_another_that_promises_as_much() -> None:
    logits = masks([8, 8, -8], [8, 8, -8], [8, 8, -8], [-4, 4, 4])
    promised = torch.tensor([[0.80, 0.79, 0.80, 0.81]])
    output = weighed(MaskOutput(logits, promised), multimask=True)
    first = int(output.iou_predictions[0].argmax())
    assert first == 2
    assert (output.logits[0, first, 0] > 0).tolist() == [True, True, False]
    # The others stay the readings that they are.
    assert torch.equal(output.logits[0, :2] > 0, logits[0, 1:3] > 0)
    assert torch.equal(output.iou_predictions, promised[:, 1:])


def test_a_mask_that_promises_far_more_stays_as_it_is() -> None:
    logits = masks([8, 8, -8], [8, 8, -8], [8, 8, -8], [-4, 4, 4])
    promised = torch.tensor([[0.1, 0.1, 0.1, 0.95]])
    output = weighed(MaskOutput(logits, promised), multimask=True)
    assert torch.equal(output.logits[0, 2] > 0, logits[0, 3] > 0)
    one = weighed(MaskOutput(logits, promised), multimask=False)
    assert one.logits.shape == (1, 1, 1, 3)
    assert torch.equal(one.logits[0, 0] > 0, logits[0, 3] > 0)
    assert torch.equal(one.iou_predictions, promised[:, :1])


@pytest.mark.parametrize(
    "prompts", [Prompts.single_points([[20, 20]]), Prompts(boxes_xyxy=[[10, 8, 30, 40]])]
)
def test_only_a_network_that_says_so_weighs_its_masks(prompts: Prompts) -> None:
    plain = make_model(TINY_PYRAMID, "plain")
    embedding = encode_rgb(plain, np.zeros((48, 64, 3), np.uint8))
    before = predict_masks(plain, embedding, prompts)
    weighing = replace(TINY_PYRAMID.mask_decoder, weighs_masks=True)
    other = make_model(replace(TINY_PYRAMID, mask_decoder=weighing), "plain")
    after = predict_masks(other, embedding, prompts)
    assert before.low_res_logits.shape == after.low_res_logits.shape
    assert not np.allclose(before.low_res_logits, after.low_res_logits)


def test_an_answer_to_an_earlier_mask_is_the_decoders_own() -> None:
    weighing = replace(TINY_PYRAMID.mask_decoder, weighs_masks=True)
    models = [make_model(one, "plain") for one in (
        TINY_PYRAMID, replace(TINY_PYRAMID, mask_decoder=weighing)
    )]  # fmt: skip
    picture = np.zeros((48, 64, 3), np.uint8)
    embeddings = [encode_rgb(model, picture) for model in models]
    logits = np.zeros((1, 1, *embeddings[0].low_res_hw), np.float32)
    prompts = Prompts(boxes_xyxy=[[10, 8, 30, 40]], mask_logits=logits)
    first, second = (
        predict_masks(model, embedding, prompts).low_res_logits
        for model, embedding in zip(models, embeddings, strict=True)
    )
    np.testing.assert_array_equal(first, second)
