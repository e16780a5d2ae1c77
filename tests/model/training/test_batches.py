from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_plugins.model.training.batches import BatchMaker, BatchOptions, CropSize
from sam_plugins.model.training.pictures import TrainingPicture

OPTIONS = BatchOptions(crop_sizes=(CropSize(64, 3, 4, 0.5), CropSize(96, 2, 6, 0.5)))


def test_a_batch_is_a_function_of_seed_and_step(pictures: list[TrainingPicture]) -> None:
    one, other = (BatchMaker(pictures, OPTIONS, seed=5) for _ in range(2))
    one.batch(0)  # what was asked for before does not matter
    assert one.batch(7).features is None
    for name, value in vars(one.batch(7)).items():
        if value is None:
            continue
        assert torch.equal(value, getattr(other.batch(7), name)), name
    assert not torch.equal(one.batch(8).masks, one.batch(7).masks)
    assert not torch.equal(BatchMaker(pictures, OPTIONS, 6).batch(7).masks, one.batch(7).masks)


def test_shapes_fit_each_other(pictures: list[TrainingPicture]) -> None:
    maker = BatchMaker(pictures, OPTIONS, seed=0)
    sizes = set()
    for step in range(12):
        batch = maker.batch(step)
        count, size = len(batch.images), batch.images.shape[-1]
        sizes.add((size, count))
        assert batch.images.dtype == torch.uint8
        assert batch.masks.shape[1:] == (size, size)
        assert set(batch.image_index.tolist()) == set(range(count))  # every crop has an object
        assert batch.mask_known.shape == (count, size, size)
        assert batch.instance_targets.shape == (count, 4, size // 4, size // 4)
        assert batch.masks.flatten(1).sum(1).min() > 0
    assert sizes == {(64, 3), (96, 2)}


def test_sets_weigh_what_was_asked_for(pictures: list[TrainingPicture]) -> None:
    options = BatchOptions(crop_sizes=OPTIONS.crop_sizes, set_shares={"odd": 0.9})
    assert BatchMaker(pictures, options, 0).shares == pytest.approx([0.1, 0.9])


def test_pictures_without_usable_objects_are_replaced() -> None:
    empty = TrainingPicture(
        "none", "0", np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint16)
    )
    batch = BatchMaker([empty], OPTIONS, 0).batch(0)
    assert len(batch.masks) > 0


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        BatchMaker([], OPTIONS, 0)
