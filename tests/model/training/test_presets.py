"""The paper's recipe: its values, its losses, and what it does to a transformer's layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT
from torch.nn import functional

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import MOBILE_SAM, SAM_VIT_B, SAM_VIT_H, TinyVitConfig
from sam_plugins.model.networks.layers import DropPath
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.encoder_layers import learning_rate_scales, set_drop_path
from sam_plugins.model.training.losses import mask_losses, prompt_loss
from sam_plugins.model.training.optimizers import make_optimizer
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.presets import (
    PAPER_LOSSES,
    PAPER_PROMPTS,
    paper_recipe,
    resolve_recipe,
)
from sam_plugins.model.training.prompt_simulation import correction_points
from sam_plugins.model.training.recipe import TrainingRecipe
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train


def test_the_recipe_is_the_papers() -> None:
    config = paper_recipe(TrainingConfig(steps=90_000, learning_rate=8e-4), SAM_VIT_H)
    assert (config.betas, config.weight_decay) == ((0.9, 0.999), 0.1)
    assert (config.layer_decay, config.drop_path, config.warmup_steps) == (0.8, 0.4, 250)
    base = paper_recipe(TrainingConfig(steps=90_000), SAM_VIT_B)
    assert (base.layer_decay, base.drop_path) == (0.6, 0.6)
    tiny = paper_recipe(TrainingConfig(), MOBILE_SAM)
    assert (tiny.layer_decay, tiny.drop_path) == (0.8, None)
    pyramid = paper_recipe(TrainingConfig(), TINY_PYRAMID)
    assert (pyramid.layer_decay, pyramid.drop_path) == (1.0, None)
    rates = [config.learning_rate_at(step) for step in (0, 249, 59_999, 60_000, 86_666, 89_999)]
    assert rates == pytest.approx([8e-4 / 250, 8e-4, 8e-4, 8e-5, 8e-6, 8e-6])


def test_which_recipe_is_meant() -> None:
    assert resolve_recipe("auto", TINY_PYRAMID) == "shipped"
    assert resolve_recipe("auto", TINY_VIT) == resolve_recipe("auto", MOBILE_SAM) == "paper"
    assert resolve_recipe("paper", TINY_PYRAMID) == "paper"
    with pytest.raises(ValueError, match="recipe must be one of auto, paper, shipped, got 'x'"):
        resolve_recipe("x", TINY_VIT)  # type: ignore[arg-type]


def test_eleven_answers_of_which_two_learn_nothing_new() -> None:
    drawn = [PAPER_PROMPTS.draw_rounds(np.random.default_rng(seed)) for seed in range(60)]
    assert {len(rounds) for rounds in drawn} == {10}  # after the first answer
    assert {sum(rounds) for rounds in drawn} == {8}
    assert not any(rounds[-1] for rounds in drawn)
    assert len({rounds.index(False) for rounds in drawn}) > 5


def test_the_losses_are_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 8, 8, generator=generator)
    target = (torch.rand(3, 8, 8, generator=generator) > 0.6).float()
    known = torch.ones(3, 8, 8)
    found = mask_losses(logits, target, known, PAPER_LOSSES)
    for n in range(3):
        for c in range(4):
            p = logits[n, c].sigmoid()
            right = torch.where(target[n] > 0, p, 1 - p)
            alpha = torch.where(target[n] > 0, 0.25, 0.75)
            focal = -(alpha * (1 - right) ** 2 * right.log()).mean()
            dice = 1 - (2 * (p * target[n]).sum() + 1) / (p.sum() + target[n].sum() + 1)
            assert float(found[n, c]) == pytest.approx(float(20 * focal + dice), rel=1e-4)


@pytest.mark.parametrize(("is_ambiguous", "taught"), [(True, {2}), (False, {0})])
def test_the_best_of_three_learns_alone_and_one_mask_of_clear_prompts(
    is_ambiguous: bool, taught: set[int]
) -> None:
    target = torch.zeros(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    logits = torch.zeros(1, 4, 8, 8)
    logits[0, 2] = target[0] * 4 - 2  # of the three, the nearest
    logits.requires_grad_()
    guesses = torch.full((1, 4), 0.5, requires_grad=True)
    losses = prompt_loss(
        logits, guesses, target, torch.ones(1, 8, 8), is_ambiguous=is_ambiguous,
        weights=PAPER_LOSSES,
    )  # fmt: skip
    losses.total.backward()
    assert logits.grad is not None
    assert guesses.grad is not None
    assert {i for i in range(4) if logits.grad[0, i].abs().sum() > 0} == taught
    returned = {1, 2, 3} if is_ambiguous else {0}
    assert {i for i in range(4) if guesses.grad[0, i] != 0} == returned


def test_corrections_come_evenly_from_the_error() -> None:
    target = torch.zeros(4000, 9, 9)
    target[:, :, :4] = 1
    logits = torch.full_like(target, -1.0)
    known = torch.ones_like(target)
    points, labels = correction_points(
        logits, target, known, torch.Generator().manual_seed(0), even=True
    )
    assert bool((labels == 1).all())
    columns = torch.bincount(((points[:, 0] - 1.5) / 4).round().long(), minlength=9)
    assert int(columns[4:].sum()) == 0
    assert columns[:4].tolist() == pytest.approx([1000] * 4, abs=120)


def test_layers_of_a_vit_learn_the_slower_the_earlier_they_are() -> None:
    network = build_sam(TINY_VIT)  # two blocks
    scales = learning_rate_scales(network, 0.5)
    assert scales["image_encoder.patch_embed.proj.weight"] == 0.5**3
    assert scales["image_encoder.pos_embed"] == 0.5**3
    assert scales["image_encoder.blocks.0.attn.qkv.weight"] == 0.5**2
    assert scales["image_encoder.blocks.1.mlp.lin2.bias"] == 0.5
    assert scales["image_encoder.neck.0.weight"] == 1
    assert scales["mask_decoder.iou_token.weight"] == 1
    optimizer = make_optimizer(network, TrainingConfig(layer_decay=0.5, weight_decay=0.1))
    by_parameter = {
        id(one): (group["scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for one in group["params"]
    }
    assert len(by_parameter) == len(list(network.parameters()))
    block = network.image_encoder.get_submodule("blocks.0.attn.qkv")
    assert by_parameter[id(block.weight)] == (0.25, 0.1)
    assert by_parameter[id(block.bias)] == (0.25, 0.0)


def test_layers_of_tiny_vit_are_counted_through_its_stages() -> None:
    encoder = TinyVitConfig(
        embed_dims=(8, 8, 16, 16), depths=(1, 1, 2, 1), num_heads=(1, 1, 1, 1), image_size=128,
        out_dim=32,
    )  # fmt: skip
    scales = learning_rate_scales(build_sam(replace(TINY_VIT, image_encoder=encoder)), 0.5)
    assert scales["image_encoder.patch_embed.seq.0.c.weight"] == 0.5**6
    assert scales["image_encoder.layers.0.blocks.0.conv1.c.weight"] == 0.5**5
    assert scales["image_encoder.layers.0.downsample.conv1.c.weight"] == 0.5**5
    assert scales["image_encoder.layers.2.blocks.1.attn.qkv.weight"] == 0.5**2
    assert scales["image_encoder.layers.3.blocks.0.attn.qkv.weight"] == 0.5


def test_a_pyramid_has_no_order_of_layers() -> None:
    network = build_sam(TINY_PYRAMID)
    assert set(learning_rate_scales(network, 1.0).values()) == {1.0}
    with pytest.raises(ValueError, match="layer_decay must be 1 for an image encoder without"):
        learning_rate_scales(network, 0.8)


def test_branches_are_dropped_more_with_depth_and_only_in_training() -> None:
    network = build_sam(TINY_VIT)
    set_drop_path(network, 0.4)
    rates = [part.rate for part in network.image_encoder.modules() if isinstance(part, DropPath)]
    assert rates == pytest.approx([0, 0.4])
    pixels = torch.randn(2, 3, 128, 128)
    network.eval()
    assert torch.equal(network.encode(pixels).embedding, network.encode(pixels).embedding)
    network.train()
    drawn = []
    for seed in range(6):
        torch.manual_seed(seed)
        drawn.append(network.encode(pixels).embedding)
    assert any(not torch.equal(drawn[0], one) for one in drawn[1:])


def test_what_cannot_be_dropped_is_refused() -> None:
    encoder = TinyVitConfig((8, 8, 8, 8), (1, 1, 1, 1), (1, 1, 1, 1), image_size=128, out_dim=32)
    network = build_sam(replace(TINY_VIT, image_encoder=encoder))
    set_drop_path(network, 0.0)
    with pytest.raises(ValueError, match="drop_path must be 0 or None"):
        set_drop_path(network, 0.4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer_decay": 0.0}, "layer_decay must lie in"),
        ({"drop_path": 1.0}, "drop_path must lie in"),
        ({"schedule": "line"}, "schedule must be cosine or steps, got 'line'"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="form must be balanced or paper, got 'x'"):
        replace(PAPER_LOSSES, form="x")  # type: ignore[arg-type]


def test_a_vit_trains_by_it_and_resumes_exactly_though_branches_are_dropped(
    pictures: list[TrainingPicture], tmp_path: object
) -> None:
    config = paper_recipe(
        TrainingConfig(steps=3, learning_rate=1e-3, precision="float32"), TINY_VIT
    )
    batches = BatchMaker(pictures, BatchOptions((CropSize(128, 1, 2, 1.0),), 0.0, {}), 0)

    def fresh() -> TrainingState:
        torch.manual_seed(0)
        return TrainingState.fresh(build_sam(TINY_VIT), config)

    whole, part = fresh(), fresh()
    assert train(whole, batches, config, workers=0)
    for stop_at in (1, 2, 3):
        torch.manual_seed(stop_at)  # What other code drew in between must not matter.
        train(part, batches, config, workers=0, stop_at=stop_at)
    for name, value in whole.average.items():
        assert torch.equal(value, part.average[name]), name


def test_a_state_of_an_older_version_is_still_this_recipe() -> None:
    recipe = TrainingRecipe(TINY_VIT, TrainingConfig(), BatchOptions(), "digest")
    older = recipe.to_dict()
    for part, key in (
        ("training", "drop_path"), ("training", "betas"), ("batches", "rim_cells"),
    ):  # fmt: skip
        del older[part][key]
    del older["training"]["losses"]["form"]
    del older["training"]["prompts"]["corrections"]
    assert recipe.differences(older) == []
    other = replace(recipe, training=TrainingConfig(drop_path=0.1))
    assert other.differences(older) == ["training.drop_path"]


def test_the_balanced_loss_is_as_it_was() -> None:
    # Recorded before the paper's form was added: a run under way must go on with the same loss.
    logits = torch.linspace(-3, 3, 2 * 3 * 16).reshape(2, 3, 4, 4)
    target = functional.pad(torch.ones(2, 2, 2), (1, 1, 1, 1))
    weights = TrainingConfig().losses
    found = mask_losses(logits, target, torch.ones(2, 4, 4), weights)
    assert found.shape == (2, 3)
    area, p = 4.0, logits.sigmoid().flatten(2)
    t = target.flatten(1)[:, None]
    focal = functional.binary_cross_entropy(p, t.expand_as(p), reduction="none") * (p - t).abs()
    inside = (focal * t).sum(-1) / (area + 1)
    outside = (focal * (1 - t)).sum(-1) / (4 * (area + 1))
    dice = 1 - (2 * (p * t).sum(-1) + 1) / ((p**2).sum(-1) + area + 1)
    assert torch.allclose(found, 2 * (inside + outside) + dice, rtol=1e-4)
