"""Unlabelled is not background: nothing is learned from where the truth is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.labelled_sets import SIZE_HW, discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID

from sam_plugins.model.engine.learner import SPARSE_RIM_CELLS, _without_ignored
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.networks.instance_decoder import InstanceMaps
from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.losses import LossWeights, instance_loss, mask_losses
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.pictures import picture_of as training_picture
from sam_plugins.model.training.presets import PAPER_LOSSES
from sam_plugins.model.training.targets import instance_targets

OPTIONS = BatchOptions((CropSize(64, 3, 3, 1.0),), 0.0, {}, 1.0, rim_cells=SPARSE_RIM_CELLS)


def gradient_of_maps(targets: np.ndarray) -> torch.Tensor:
    """Where the instance decoder's maps are told anything, shape (h, w)."""
    values = torch.from_numpy(targets)[None]
    maps = torch.zeros(3, 1, 1, *values.shape[-2:], requires_grad=True)
    instance_loss(InstanceMaps(*maps), values).backward()
    assert maps.grad is not None
    return maps.grad.abs().sum((0, 1, 2))


def test_masks_learn_nothing_from_unknown_pixels() -> None:
    for weights in (LossWeights(), PAPER_LOSSES):
        logits = torch.randn(1, 4, 8, 8, requires_grad=True)
        target, known = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
        target[:, 2:6, 1:5] = 1
        known[:, :, 4:] = 0
        mask_losses(logits, target, known, weights).sum().backward()
        assert logits.grad is not None
        assert float(logits.grad[..., 4:].abs().sum()) == 0
        assert bool((logits.grad[..., :4] != 0).all())


def test_the_instance_decoder_learns_nothing_from_unknown_pixels() -> None:
    labels = np.zeros((64, 64), np.int64)
    labels[16:32, 16:32] = 1
    known = np.ones((64, 64), bool)
    known[:, 48:] = False
    whole = gradient_of_maps(instance_targets(labels, known, complete=True))
    assert float(whole[:, 12:].sum()) == 0
    assert bool((whole[:, :12] > 0).all())

    sparse = gradient_of_maps(
        instance_targets(labels, known, complete=False, rim_cells=SPARSE_RIM_CELLS)
    )
    told = sparse > 0
    assert bool(told[4:8, 4:8].all())
    rim = told.clone()
    rim[3:9, 3:9] = False
    assert not bool(rim.any())  # One cell around the object, and nothing farther away.


def test_an_unlabelled_neighbour_teaches_nothing() -> None:
    labels = np.zeros((64, 64), np.int64)
    labels[8:24, 8:24] = 1
    both = labels.copy()
    both[40:56, 40:56] = 2
    known = np.ones((64, 64), bool)
    far = (slice(None), slice(8, None), slice(8, None))
    sparse, full = (
        instance_targets(one, known, complete=False, rim_cells=SPARSE_RIM_CELLS)
        for one in (labels, both)
    )
    assert sparse[3][far[1:]].sum() == 0  # where the neighbour lies, nothing is known
    assert full[3][far[1:]].sum() > 0
    assert gradient_of_maps(sparse)[far[1:]].sum() == 0


def ignored(labels: np.ndarray) -> TrainingPicture:
    """A picture whose right part is ignored, as fine-tuning takes it."""
    ignore = np.zeros(SIZE_HW, bool)
    ignore[:, 34:] = True
    image = LabelledImage("a", picture_of(discs()), labels, ignore=ignore, complete=False)
    return _without_ignored(training_picture(image, TINY_PYRAMID.preprocessing))


def test_what_is_labelled_in_ignored_parts_does_not_matter() -> None:
    labels = discs()
    changed = labels.copy()
    changed[:, 34:] = 0
    changed[30:40, 50:60] = 3
    one, other = (BatchMaker([ignored(value)], OPTIONS, 0) for value in (labels, changed))
    for step in range(4):
        here, there = one.batch(step), other.batch(step)
        for name in ("images", "masks", "image_index", "mask_known", "instance_targets"):
            assert torch.equal(getattr(here, name), getattr(there, name)), name
        assert not bool(here.mask_known.all())


def test_the_rim_is_a_choice_of_the_batches() -> None:
    image = LabelledImage("a", picture_of(discs()), discs(), complete=False)
    picture = training_picture(image, TINY_PYRAMID.preprocessing)
    known = [
        float(BatchMaker([picture], replace(OPTIONS, rim_cells=cells), 0).batch(0)
              .instance_targets[:, 3].sum())
        for cells in (1, 3)
    ]  # fmt: skip
    assert 0 < known[0] < known[1]


def test_labels_beyond_16_bits_are_numbered_anew() -> None:
    # as connectomics numbers neurons
    numbers = np.array([0, 7, 10**12, 10**12 + 5])
    labels = numbers[discs()]
    image = LabelledImage(
        "a", picture_of(discs()), labels, whole_masks={10**12: discs() == 2, 7: discs() == 1}
    )
    picture = training_picture(image, TINY_PYRAMID.preprocessing)
    plain = training_picture(
        LabelledImage("a", picture_of(discs()), discs()), TINY_PYRAMID.preprocessing
    )
    np.testing.assert_array_equal(picture.labels, plain.labels)
    assert set(picture.whole_rles) == {1, 2}
    full = LabelledImage("a", np.zeros((300, 300)), 10**6 + np.arange(90_000).reshape(300, 300))
    with pytest.raises(ValueError, match="a must hold at most 65535 objects, got 90000"):
        training_picture(full, TINY_PYRAMID.preprocessing)
