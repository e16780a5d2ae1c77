"""Crops and masks of pre-training, and the picture of what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unlabelled_pictures import write_pictures

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.config import VitConfig
from sam_plugins.model.networks.masked_autoencoder import MaeConfig, MaeOutput
from sam_plugins.model.training.drawing import TITLES, draw_reconstructions, drawing_targets
from sam_plugins.model.training.masked_pictures import MaskedBatches, middle_crop, random_crop
from sam_plugins.model.training.pretraining_config import NETWORKS, PretrainingConfig
from sam_plugins.model.training.unlabelled import UnlabelledPictures

TINY = MaeConfig(
    VitConfig(embed_dim=16, depth=1, num_heads=2, patch_size=8, global_attention_blocks=(0,)),
    image_size=32,
    decoder_dim=8,
    decoder_depth=1,
    decoder_heads=2,
)


def test_a_batch_follows_from_its_step(tmp_path: Path) -> None:
    pictures = UnlabelledPictures.open(write_pictures(tmp_path))
    batches = MaskedBatches(pictures, PretrainingConfig(network=TINY, batch_size=4, seed=3))
    one, again, other = batches.batch(5), batches.batch(5), batches.batch(6)
    assert one.images.shape == (4, 3, 32, 32)
    assert one.images.dtype == torch.uint8
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.order, again.order)
    assert not torch.equal(one.images, other.images)
    assert torch.equal(one.order.sort(dim=1).values, torch.arange(16).expand(4, -1))
    assert not torch.equal(one.order[0], one.order[1])
    fixed, again = batches.fixed(2, 4), batches.fixed(2, 4)
    assert torch.equal(fixed.images, again.images)
    assert torch.equal(fixed.order, again.order)
    assert not torch.equal(fixed.images, batches.fixed(0, 2).images)


def test_crops_show_the_share_that_was_asked_for() -> None:
    rows, columns = np.mgrid[:120, :160]
    ramps = np.stack([columns, rows, rows], axis=-1).astype(np.uint8)  # values are places
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        crop = random_crop(ramps, 24, rng, min_share=0.25).astype(float)
        # A crop of w pixels shows its first and last place w - w / 24 apart.
        w, h = (np.ptp(crop[..., 0]) * 24 / 23, np.ptp(crop[..., 1]) * 24 / 23)
        assert 0.7 < w / h < 1.4
        shares.append(w * h / (120 * 160))
    assert 0.23 < min(shares) < 0.32
    assert max(shares) > 0.8
    narrow = random_crop(ramps[:4], 24, rng, min_share=1)  # none fits
    assert np.array_equal(narrow, middle_crop(ramps[:4], 24))


def test_the_figure_shows_what_was_drawn() -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(torch.uint8)
    is_masked = torch.zeros(2, 16, dtype=torch.bool)
    is_masked[:, 1:] = True
    target = drawing_targets(pixels, 8)
    perfect = draw_reconstructions(pixels, MaeOutput(target, is_masked), 8)
    assert perfect.size == (len(TITLES) * 36 - 4, 22 + 2 * 36 - 4)
    tiles = [np.asarray(perfect.crop((36 * i, 22, 36 * i + 32, 54))).astype(int) for i in range(4)]
    original = pixels[0].permute(1, 2, 0).numpy()
    for tile in (tiles[0], tiles[2], tiles[3]):
        assert np.abs(tile - original).max() <= 1
    assert np.abs(tiles[1][:8, :8] - original[:8, :8]).max() <= 1  # the first patch is seen
    assert len(np.unique(tiles[1][8:].reshape(-1, 3), axis=0)) == 1  # the others are grey


def test_a_grey_picture_has_no_colours_to_draw_and_an_empty_one_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (1, 1, 16, 16), generator=rng).expand(-1, 3, -1, -1)
    target = drawing_targets(grey.to(torch.uint8), 8).unflatten(-1, (8, 8, 3))
    assert torch.equal(target[..., 0], target[..., 2])
    assert target.var() > 0.9
    empty = 7 + (torch.rand(1, 3, 16, 16, generator=rng) < 0.02).to(torch.uint8)
    assert drawing_targets(empty, 8).square().mean() < 0.05


def test_a_config_there_and_back(tmp_path: Path) -> None:
    config = PretrainingConfig(network=TINY, steps=7, precision="bfloat16")
    assert PretrainingConfig.from_dict(config.to_dict()) == config
    path = tmp_path / "config.json"
    path.write_text('{"steps": 9, "network": {"encoder": {"embed_dim": 192, "num_heads": 3}}}')
    read = PretrainingConfig.read(path)
    assert (read.steps, read.network.encoder.embed_dim, read.network.decoder_dim) == (9, 192, 512)
    assert read.network.encoder.depth == VitConfig().depth
    assert NETWORKS["vit-b"].encoder == VitConfig()
    assert PretrainingConfig(network=NETWORKS["vit-h"], mask_share=0.5).visible == 98


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 3", "no configuration of a pre-training run: Expecting value"),
        ("[1]", r"must be an object of names and values, got \[1\]"),
        ('{"step": 3}', "unknown values step; known are batch_size, checks"),
        ('{"steps": "3"}', 'steps must be of the kind of 20000, got "3"'),
        ('{"steps": 3.5}', "steps must be of the kind of 20000, got 3.5"),
        ('{"network": 3}', "network must be of the kind of|network must be an object"),
        ('{"network": {"encoder": {"width": 3}}}', "unknown values width; known are depth"),
        (
            '{"mask_share": 1}',
            "mask_share must leave a patch to see and a patch to draw of the 196 ",
        ),
        ('{"mask_share": 0.999}', "mask_share must leave a patch to see"),
        ('{"steps": 0}', "steps must be 1 or more, got 0"),
        ('{"learning_rate": NaN}', "learning_rate must be positive and finite, got nan"),
        ('{"min_crop_share": 0}', r"min_crop_share must lie in \(0, 1\]"),
        ('{"held_out_share": 1}', r"held_out_share must lie in \[0, 1\)"),
        ('{"precision": "half"}', "precision must be auto, bfloat16 or float32, got 'half'"),
        ('{"sam_image_size": 1000}', "sam_image_size must be a multiple of the patches of 16"),
    ],
)
def test_a_config_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        PretrainingConfig.read(path)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nothing\.json is no configuration .* No such file"):
        PretrainingConfig.read(tmp_path / "nothing.json")
