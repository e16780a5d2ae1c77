"""The head that is trained beside the encoder: what it answers, and that it teaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import PyramidConfig, SamConfig, VitConfig
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.training.auxiliary import ClickHead, draw_cells
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize, TrainingBatch
from sam_plugins.model.training.config import TrainingConfig
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.state import TrainingState
from sam_plugins.model.training.trainer import train

class _OneBatch(BatchMaker):
    """The same batch at every step."""

    def batch(self, step: int) -> TrainingBatch:
        return super().batch(0)


CONFIG = PyramidConfig(skip_dims=(5, 4), out_dim=6)
DENSE = BatchOptions(crop_sizes=(CropSize(64, 4, 3, 1.0, is_dense=True),))


def features() -> ImageFeatures:
    """Maps of two images of 64 x 96 pixels."""
    generator = torch.Generator().manual_seed(1)

    def draw(channels: int, stride: int) -> Tensor:
        return torch.randn(2, channels, 64 // stride, 96 // stride, generator=generator)

    return ImageFeatures(draw(6, 16), (draw(5, 8), draw(4, 4)))


def test_every_click_is_answered_from_its_own_image_and_place() -> None:
    torch.manual_seed(0)
    head, maps = ClickHead(CONFIG), features()
    cells, index = torch.tensor([[3, 2], [20, 15], [3, 2]]), torch.tensor([0, 1, 1])
    logits = head(maps, cells, index)
    assert logits.shape == (3, 1, 16, 24)
    for row in range(3):
        own = ImageFeatures(
            maps.embedding[index[row], None], tuple(skip[index[row], None] for skip in maps.skips)
        )
        alone = head(own, cells[row, None], torch.tensor([0]))
        torch.testing.assert_close(logits[row, None], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits[0], logits[2])  # another image
    assert not torch.allclose(logits[1], logits[2])  # another place


def test_a_fresh_head_is_calm() -> None:
    torch.manual_seed(0)
    logits = ClickHead(CONFIG)(features(), torch.tensor([[3, 2]]), torch.tensor([0]))
    assert float(logits.detach().abs().max()) < 20


def test_clicks_are_drawn_on_the_objects() -> None:
    target = torch.zeros(50, 6, 9)
    for number, object_ in enumerate(target):
        object_[number % 6, 3:5] = torch.tensor([0.1, 1.0])
    cells = draw_cells(target, torch.Generator().manual_seed(0))
    assert torch.equal(cells[:, 1], torch.arange(50) % 6)
    assert set(cells[:, 0].tolist()) <= {3, 4}
    assert float((cells[:, 0] == 4).float().mean()) > 0.9  # the cell that is covered whole


def test_only_a_pyramid_has_a_head(tiny_config: SamConfig) -> None:
    training = TrainingConfig(steps=1)
    assert TrainingState.fresh(build_sam(tiny_config), training).click_head is not None
    vit = SamConfig(VitConfig(embed_dim=16, depth=0, num_heads=2, image_size=64))
    assert TrainingState.fresh(build_sam(vit), training).click_head is None


def test_the_encoder_learns_from_clicks_and_the_mask_decoder_rests(
    tiny_config: SamConfig, pictures: list[TrainingPicture]
) -> None:
    config = TrainingConfig(
        steps=60, warmup_steps=5, click_head_steps=20, precision="float32", learning_rate=5e-3
    )
    torch.manual_seed(0)
    state = TrainingState.fresh(build_sam(replace(tiny_config, instance_decoder=None)), config)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    reports: list[Mapping[str, float]] = []
    batches = _OneBatch(pictures, DENSE, 0)
    train(state, batches, config, stop_at=20, workers=0)
    after = state.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    train(state, batches, config, workers=0, report=lambda _, values: reports.append(dict(values)))
    changed = {
        name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])
    }
    assert changed == {"image_encoder"}
    overlaps = [values["click"] for values in reports]
    assert np.mean(overlaps[:5]) < 0.2
    assert np.mean(overlaps[-5:]) > 0.4
