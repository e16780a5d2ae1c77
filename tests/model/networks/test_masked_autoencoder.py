"""The masked autoencoder against another implementation, and what its parts have to obey."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.config import VitConfig
from sam_plugins.model.networks.masked_autoencoder import (
    MaeConfig,
    MaeOutput,
    MaskedAutoencoder,
    normalised_patches,
    patch_statistics,
    patchify,
    position_table,
    reconstruction_loss,
    unpatchify,
)

TINY = MaeConfig(
    VitConfig(embed_dim=24, depth=2, num_heads=3, patch_size=8),
    image_size=32,
    decoder_dim=16,
    decoder_depth=2,
    decoder_heads=2,
)


def random_case(seed: int = 0) -> tuple[MaskedAutoencoder, Tensor, Tensor]:
    torch.manual_seed(seed)
    network = MaskedAutoencoder(TINY)
    with torch.no_grad():
        for parameter in network.parameters():  # biases and norms too
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    images = torch.randn(2, 3, 32, 32)
    return network, images, torch.rand(2, 16)


def their_state(mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names (the official ones) as those of Hugging Face's transformers."""
    theirs: dict[str, Tensor] = {}
    for name, value in mine.items():
        side = "decoder" if name.startswith(("decoder_", "mask_token")) else "vit"
        name = re.sub(r"^(decoder_)?blocks\.(\d+)", rf"{side}.\1layers.\2", name)
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("attn.proj", "attention.o_proj")
        name = re.sub(r"^norm\.", "vit.layernorm.", name)
        name = re.sub(r"^(cls_token)", r"vit.embeddings.\1", name)
        name = re.sub(r"^pos_embed", "vit.embeddings.position_embeddings", name)
        name = re.sub(r"^patch_embed\.proj", "vit.embeddings.patch_embeddings.projection", name)
        name = re.sub(r"^(mask_token|decoder_(?:pos|embed|norm|pred))", r"decoder.\1", name)
        if "attn.qkv" in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                theirs[name.replace("attn.qkv", f"attention.{letter}_proj")] = part
        else:
            theirs[name] = value
    return theirs


def test_the_answers_are_those_of_another_implementation() -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (extra: text)"
    )
    config = transformers.ViTMAEConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        image_size=32, patch_size=8, decoder_hidden_size=16, decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2, decoder_intermediate_size=64, norm_pix_loss=True,
        mask_ratio=0.75, layer_norm_eps=1e-6,
    )  # fmt: skip
    other = transformers.ViTMAEForPreTraining(config).eval()
    if "vit.layers.0.layernorm_before.weight" not in other.state_dict():
        pytest.skip(f"transformers {transformers.__version__} names its layers otherwise")
    mine, images, noise = random_case()
    other.load_state_dict(their_state(mine.state_dict()))
    with torch.no_grad():
        expected = other(images, noise=noise)
        answer = mine(images, noise.argsort(dim=1), 4)
        loss = reconstruction_loss(answer, normalised_patches(images, 8))
    torch.testing.assert_close(answer.patches, expected.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(answer.is_masked, expected.mask.bool())
    torch.testing.assert_close(loss, expected.loss, rtol=1e-4, atol=1e-5)


def test_what_is_masked_does_not_reach_the_encoder() -> None:
    network, images, noise = random_case()
    order = noise.argsort(dim=1)
    answer = network(images, order, 4)
    hidden = unpatchify(answer.is_masked[..., None].expand(-1, -1, 192).float(), 8).bool()
    changed = torch.where(hidden, torch.randn_like(images), images)
    assert not torch.equal(changed, images)
    torch.testing.assert_close(network(changed, order, 4).patches, answer.patches)
    assert answer.is_masked.sum(1).tolist() == [12, 12]
    seen = torch.where(hidden, images, torch.randn_like(images))
    assert not torch.allclose(network(seen, order, 4).patches, answer.patches, atol=1e-3)


def test_patches_there_and_back() -> None:
    images = torch.randn(2, 3, 24, 24)
    patches = patchify(images, 8)
    assert patches.shape == (2, 9, 192)
    # The second patch of the first row: its first pixel's three colours come first.
    assert torch.equal(patches[0, 1, :3], images[0, :, 0, 8])
    assert torch.equal(unpatchify(patches, 8), images)


def test_a_flat_patch_has_nothing_to_be_drawn() -> None:
    images = torch.randn(1, 3, 16, 16)
    images[..., :8, :8] = 0.5
    target = normalised_patches(images, 8)
    assert target[0, 0].abs().max() < 1e-3
    mean, deviation = patch_statistics(patchify(images, 8))
    torch.testing.assert_close(
        unpatchify(target * deviation + mean, 8), images, rtol=1e-5, atol=1e-5
    )
    everything = torch.ones(1, 4, dtype=torch.bool)
    constant = reconstruction_loss(MaeOutput(torch.zeros_like(target), everything), target)
    assert constant == pytest.approx(0.75, abs=0.01)  # one patch of four is flat


def test_positions_are_the_sines_of_the_paper_and_tell_x_from_y() -> None:
    table = position_table(8, 3)[0]
    assert table.shape == (10, 8)
    for y in range(3):
        for x in range(3):
            waves = [f(place / 10_000 ** (i / 2)) for place in (x, y)
                     for f in (math.sin, math.cos) for i in range(2)]  # fmt: skip
            torch.testing.assert_close(table[1 + 3 * y + x], torch.tensor(waves))
    assert not table[0].any()
    assert torch.equal(table[1, :4], table[4, :4])  # x is the same one row below
    assert torch.equal(table[1, 4:], table[2, 4:])  # y is the same one column to the right
    assert len(torch.unique(table, dim=0)) == 10


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size must be a multiple of the patches of 16"):
        MaeConfig(image_size=100)
    with pytest.raises(ValueError, match="width of the decoder must be a multiple of 4 and of its"):
        MaeConfig(decoder_dim=100, decoder_heads=8)
    with pytest.raises(ValueError, match="need a block at least, got depths of 0 and 8"):
        MaeConfig(VitConfig(depth=0))
    network, images, noise = random_case()
    order = noise.argsort(dim=1)
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, 32, 32\) and order"):
        network(images[..., :24], order, 4)
    with pytest.raises(ValueError, match="visible must lie between 1 and 15 patches, got 16"):
        network(images, order, 16)
