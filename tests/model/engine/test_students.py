"""Which student fits which teacher, and how far two models agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.engine.agreement import click_agreement, clicks_of
from sam_plugins.model.engine.students import STUDENTS, build_student, student_config
from sam_plugins.model.inference.predict import encode_rgb, predict_masks
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import (
    MOBILE_SAM,
    SAM_VIT_B,
    SHIPPED,
    InstanceDecoderConfig,
    SamConfig,
    VitConfig,
)
from sam_plugins.model.weights.bare_network import NoInitialisation


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("teacher", [SAM_VIT_B, MOBILE_SAM, TINY_VIT])
def test_embeddings_have_the_teachers_shape(kind: str, teacher: SamConfig) -> None:
    config = student_config(teacher, kind)  # type: ignore[arg-type]
    assert replace(config, image_encoder=teacher.image_encoder) == teacher
    if teacher is TINY_VIT:
        network = build_sam(config).eval()
        with torch.no_grad():
            embedding = network.encode(torch.rand(1, 3, 128, 128)).embedding
        assert embedding.shape == (1, 32, 8, 8)


def test_a_pyramid_has_the_finer_maps_of_the_shipped_model() -> None:
    config = student_config(SHIPPED, "pyramid")
    with torch.device("meta"), NoInitialisation():
        old, new = build_sam(SHIPPED), build_sam(config)
    others = {
        name: value.shape
        for name, value in old.state_dict().items()
        if not name.startswith("image_encoder.")
    }
    assert others == {
        name: value.shape
        for name, value in new.state_dict().items()
        if not name.startswith("image_encoder.")
    }
    sizes = [sum(p.numel() for p in one.image_encoder.parameters()) for one in (old, new)]
    assert sizes[1] < 0.25 * sizes[0]


def test_students_that_do_not_fit_are_refused() -> None:
    for kind in ("tiny_vit", "vit-small"):
        with pytest.raises(UnsuitableModelError, match=f"read finer maps .* {kind} has none: choo"):
            student_config(SHIPPED, kind)  # type: ignore[arg-type]
    plain = replace(SHIPPED.mask_decoder, uses_skips=False)
    wide = replace(SHIPPED, mask_decoder=plain, instance_decoder=None)
    with pytest.raises(UnsuitableModelError, match="takes pictures of any shape, and tiny_vit onl"):
        student_config(wide, "tiny_vit")
    coarse = replace(SAM_VIT_B, image_encoder=VitConfig(patch_size=32))
    with pytest.raises(UnsuitableModelError, match="have a cell for 32 pixels, those of vit-small"):
        student_config(coarse, "vit-small")
    with pytest.raises(UnsuitableModelError, match="this teacher has one for 32 pixels of 1024"):
        student_config(coarse, "pyramid")
    with_instances = replace(SAM_VIT_B, instance_decoder=InstanceDecoderConfig())
    with pytest.raises(UnsuitableModelError, match="reads a finer map: choose the student"):
        student_config(with_instances, "pyramid")
    assert student_config(with_instances, "tiny_vit").instance_decoder is not None
    with pytest.raises(ValueError, match="student must be one of tiny_vit, pyramid, vit-small"):
        student_config(SAM_VIT_B, "huge")  # type: ignore[arg-type]


def test_a_student_has_the_teachers_decoders() -> None:
    teacher = make_model(TINY_PYRAMID, "teacher").network
    student = build_student(teacher, student_config(TINY_PYRAMID, "pyramid"), seed=1)
    state = student.state_dict()
    for name, value in teacher.state_dict().items():
        if not name.startswith("image_encoder."):
            assert torch.equal(state[name], value), name


def test_a_model_agrees_with_itself_and_less_with_another() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    one, other = make_model(TINY_VIT, "one"), make_model(TINY_VIT, "other", seed=1)
    clicks = clicks_of((40, 56), 5, seed=0)
    asked = [(model, encode_rgb(model, rgb)) for model in (one, other)]
    itself = click_agreement(asked[0], asked[0], clicks)
    assert (itself.confident, itself.same, itself.clicks) == (1.0, 1.0, 5)
    found = click_agreement(asked[0], asked[1], clicks)
    assert found.confident < 0.9

    # By the definition, one click after the other, on what is picture and not padding.
    height, width = (-(-side // 4) for side in asked[0][1].input_size_hw)
    assert height < 32
    confident, same = [], []
    for click in clicks:
        prompts = Prompts(points_xy=click[None, None])
        answers = [predict_masks(*pair, prompts, multimask=True) for pair in asked]
        masks = [answer.low_res_logits[0, :, :height, :width] > 0 for answer in answers]
        best = [mask[answer.iou_predictions[0].argmax()]
                for mask, answer in zip(masks, answers, strict=True)]  # fmt: skip
        confident.append(iou(*best))
        same.append(np.mean([iou(a, b) for a, b in zip(*masks, strict=True)]))
    assert found.confident == pytest.approx(np.mean(confident))
    assert found.same == pytest.approx(np.mean(same))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def test_clicks_lie_within_the_picture_and_follow_from_the_seed() -> None:
    clicks = clicks_of((3, 200), 100, seed=4)
    assert clicks.min() >= 0
    assert (clicks <= (199, 2)).all()
    assert np.ptp(clicks[:, 0]) > 150
    assert np.array_equal(clicks, clicks_of((3, 200), 100, seed=4))
    assert not np.array_equal(clicks, clicks_of((3, 200), 100, seed=5))
