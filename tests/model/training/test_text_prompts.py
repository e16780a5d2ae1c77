"""Training with text prompts: what CLIP sees of objects, and that a network learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SamConfig
from sam_plugins.model.training.batches import TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.text_prompts import (
    TextPromptOptions,
    object_embeddings,
    with_text_slot,
)
from sam_plugins.model.training.text_trainer import train_text_prompts

SIZE = 64


@dataclass(frozen=True)
class MeanColour:
    """The vector of a crop is its mean colour."""

    dim: int = 3
    crop_size: int = 8
    fill: tuple[int, int, int] = (0, 0, 0)

    def embed_crops(self, crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        means = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops])
        unit: npt.NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit.astype(np.float32)


class Halves:
    """A red and a green half, the left one or the right one, and nothing to tell them but that."""

    def batch(self, step: int) -> TrainingBatch:
        rng = np.random.default_rng(step)
        images, masks = np.zeros((4, SIZE, SIZE, 3), np.uint8), []
        for image in images:
            edge = int(rng.integers(20, SIZE - 20))
            left, right = ((220, 30, 30), (30, 220, 30))[:: int(rng.choice([-1, 1]))]
            image[:, :edge], image[:, edge:] = left, right
            masks += [image[..., 0] > 128, image[..., 1] > 128]
        return TrainingBatch(
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(np.stack(masks).astype(np.uint8)),
            torch.arange(4).repeat_interleave(2),
            torch.ones(4, SIZE, SIZE, dtype=torch.bool),
            torch.zeros(4, 4, SIZE // 4, SIZE // 4),
        )


@pytest.mark.parametrize("config", [TINY_PYRAMID, TINY_VIT])
def test_a_text_slot_changes_no_other_answer(config: SamConfig) -> None:
    torch.manual_seed(0)
    network = build_sam(config).eval()
    larger = with_text_slot(network, 5).eval()
    assert larger.config.prompt_encoder.text_dim == 5
    picture = torch.randn(1, 3, 128, 128)
    asked = {"points_xy": torch.tensor([[[20.0, 30.0]]]), "point_labels": torch.tensor([[1]])}
    before = network.decode(network.encode(picture), **asked)
    after = larger.decode(larger.encode(picture), **asked)
    assert torch.equal(before.logits, after.logits)
    text = larger.decode(larger.encode(picture), text_embeddings=torch.randn(2, 5))
    assert text.logits.shape[0] == 2
    again = with_text_slot(larger, 5)
    weight = "prompt_encoder.text_projection.weight"
    assert torch.equal(again.state_dict()[weight], larger.state_dict()[weight])
    with pytest.raises(ValueError, match=r"that of the text slot where there is one \(5\), got 6"):
        with_text_slot(larger, 6)
    with pytest.raises(ValueError, match=r"1 or more, .*\(None\), got 0"):
        with_text_slot(network, 0)


def test_objects_are_embedded_as_their_crops_look() -> None:
    batch = Halves().batch(0)
    options = TextPromptOptions(scales=(1.0, 1.0), masked_share=1.0)
    found = object_embeddings(batch, MeanColour(), options, np.random.default_rng(0))
    assert found.shape == (8, 3)
    assert (found[::2].argmax(dim=1) == 0).all()
    assert (found[1::2].argmax(dim=1) == 1).all()
    wide = replace(options, scales=(1.0, 3.0), masked_share=0.0)
    once = object_embeddings(batch, MeanColour(), wide, np.random.default_rng(1))
    again = object_embeddings(batch, MeanColour(), wide, np.random.default_rng(1))
    assert torch.equal(once, again)
    assert not torch.allclose(once, found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"masked_share": 2}, r"masked_share must lie in \[0, 1\], got 2"),
        ({"text_share": -1}, r"text_share must lie in \[0, 1\], got -1"),
        ({"scales": (0.5, 2)}, r"scales must be a range from 1 or more, got \(0\.5, 2\)"),
        ({"scales": (2, 1)}, r"scales must be a range from 1 or more, got \(2, 1\)"),
        ({"rounds": (0.5, 0.4)}, r"rounds must sum to 1, got \(0\.5, 0\.4\)"),
    ],
)
def test_options_are_checked(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextPromptOptions(**values)  # type: ignore[arg-type]


def test_a_network_learns_to_find_what_an_embedding_describes() -> None:
    torch.manual_seed(0)
    network = with_text_slot(build_sam(TINY_PYRAMID), 3)
    config = TrainingConfig(
        steps=60, learning_rate=4e-3, warmup_steps=5, precision="float32", weight_decay=0.0
    )
    options = TextPromptOptions(text_share=0.9, masked_share=1.0, rounds=(0.8, 0.2))
    losses: list[float] = []
    train_text_prompts(
        network,
        Halves(),
        MeanColour(),
        config,
        options,
        method="full",
        report=lambda _, values: losses.append(values["loss"]),
    )
    assert len(losses) == 60
    assert not network.training
    batch = Halves().batch(1000)
    mean = torch.tensor(network.config.preprocessing.pixel_mean)[:, None, None]
    std = torch.tensor(network.config.preprocessing.pixel_std)[:, None, None]
    features = network.encode((batch.images.float() - mean) / std)
    texts = torch.tensor([[0.98, 0.14, 0.14], [0.14, 0.98, 0.14]]).repeat(4, 1)
    output = network.decode(features, text_embeddings=texts, image_index=batch.image_index)
    found = output.logits[:, 0] > 0
    truth = batch.masks[:, ::4, ::4] > 0
    ious = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))
    swapped = truth.flip(0)[[1, 0, 3, 2, 5, 4, 7, 6]].flip(0)
    others = (found & ~truth).sum((1, 2)) / swapped.sum((1, 2)).clamp(min=1)
    assert ious.mean() > 0.8, ious
    assert others.mean() < 0.3


def test_a_frozen_encoder_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network = with_text_slot(build_sam(TINY_PYRAMID), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = TrainingConfig(steps=2, warmup_steps=0, precision="float32")
    train_text_prompts(network, Halves(), MeanColour(), config, method="decoder")
    moved = {
        name.split(".")[0]
        for name, value in network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"prompt_encoder", "mask_decoder"}


def test_refusals() -> None:
    torch.manual_seed(0)
    network = with_text_slot(build_sam(TINY_PYRAMID), 3)
    config = TrainingConfig(steps=1, warmup_steps=0, precision="float32")
    with pytest.raises(ValueError, match="of 4 values, got a slot of 3; make it with with_text_sl"):
        train_text_prompts(network, Halves(), MeanColour(dim=4), config)
    with pytest.raises(ValueError, match="of 3 values, got a slot of None"):
        train_text_prompts(build_sam(TINY_PYRAMID), Halves(), MeanColour(), config)
    with pytest.raises(ValueError, match="method must be 'decoder' or 'full', got 'lora'"):
        train_text_prompts(network, Halves(), MeanColour(), config, method="lora")  # type: ignore[arg-type]
    with torch.no_grad():
        network.prompt_encoder.text_projection.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss of step 0 is not a number"):
        train_text_prompts(
            network, Halves(), MeanColour(), config, TextPromptOptions(text_share=1.0)
        )
