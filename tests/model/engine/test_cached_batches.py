"""Batches from cached embeddings: what the encoder would give, cut out, and never asked again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.errors import DatasetError
from sam_plugins.model.engine.cached_batches import CachedBatches
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.preprocess import prepare_input
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.networks.features import ImageFeatures
from sam_plugins.model.training.batches import BatchOptions, CropSize, TrainingBatch
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.pictures import picture_of as training_picture

OPTIONS = BatchOptions((CropSize(64, 2, 3, 1.0),), 0.0, {}, 1.0)


@pytest.fixture
def pictures() -> list[TrainingPicture]:
    """Two pictures with three discs each."""
    return [
        training_picture(
            LabelledImage(str(seed), picture_of(discs(seed)), discs(seed)),
            TINY_PYRAMID.preprocessing,
        )
        for seed in (0, 3)
    ]


class _Counting:
    """A model whose encoder counts how often it is asked."""

    def __init__(self) -> None:
        self.model = make_model(TINY_PYRAMID, "tiny")
        self.count = 0
        self.model.network.image_encoder.register_forward_hook(self._counted)

    def _counted(self, *_: object) -> None:
        self.count += 1


def test_windows_are_parts_of_the_whole_pictures_embedding(
    pictures: list[TrainingPicture],
) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    batches = CachedBatches(pictures[:1], model, OPTIONS, 0, views=1)
    pixels, _ = prepare_input(pictures[0].rgb, model.preprocessing)
    with torch.no_grad():
        whole = model.network.encode(pixels)
    for step in range(4):
        batch = batches.batch(step)
        assert batch.features is not None
        assert batch.features.embedding.shape == (2, 32, 4, 4)
        assert [tuple(skip.shape) for skip in batch.features.skips] == [
            (2, 8, 8, 8),
            (2, 8, 16, 16),
        ]
        assert batch.masks.shape[1:] == batch.mask_known.shape[1:] == (64, 64)
        assert batch.instance_targets.shape == (2, 4, 16, 16)
        assert bool(batch.masks.flatten(1).any(1).all())
        for crop in range(2):
            assert _found(whole, batch, crop)


def _found(whole: ImageFeatures, batch: TrainingBatch, crop: int) -> bool:
    """Whether a window is somewhere in the embedding, its finest map at the same place."""
    assert batch.features is not None
    own, fine = batch.features.embedding[crop], batch.features.skips[1][crop]
    height, width = whole.embedding.shape[-2:]
    for y in range(height - 3):
        for x in range(width - 3):
            same = torch.allclose(whole.embedding[0, :, y : y + 4, x : x + 4], own, atol=0.01)
            there = whole.skips[1][0, :, 4 * y : 4 * y + 16, 4 * x : 4 * x + 16]
            if same and torch.allclose(there, fine, atol=0.01):
                return True
    return False


def test_a_picture_is_encoded_once_for_each_view(pictures: list[TrainingPicture]) -> None:
    counting = _Counting()
    batches = CachedBatches(pictures, counting.model, OPTIONS, 0, views=3)
    batches.encode_all()
    assert counting.count == 6
    for step in range(10):
        batches.batch(step)
    assert counting.count == 6


def test_embeddings_of_the_shared_cache_are_used(
    pictures: list[TrainingPicture], tmp_path: Path
) -> None:
    first, second = _Counting(), _Counting()
    CachedBatches(pictures, first.model, OPTIONS, 0, views=1, cache=EmbeddingCache(tmp_path))
    again = CachedBatches(
        pictures, second.model, OPTIONS, 0, views=1, cache=EmbeddingCache(tmp_path)
    )
    again.batch(0)
    assert (first.count, second.count) == (2, 0)


def test_a_batch_is_a_function_of_seed_and_step(pictures: list[TrainingPicture]) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    one, other = (CachedBatches(pictures, model, OPTIONS, 5, views=2) for _ in range(2))
    one.batch(0)
    here, there = one.batch(7), other.batch(7)
    assert torch.equal(here.masks, there.masks)
    assert here.features is not None
    assert there.features is not None
    for name, value in here.features.named_tensors().items():
        assert torch.equal(value, there.features.named_tensors()[name])
    assert not torch.equal(one.batch(8).masks, here.masks)
    assert one.data_digest == other.data_digest
    assert CachedBatches(pictures, model, OPTIONS, 5, views=1).data_digest != one.data_digest


def test_memory_limits_the_number_of_views(pictures: list[TrainingPicture]) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    size = 2 * sum(  # float16 values of two pictures of 96 x 128 (96 high, 128 wide)
        value.numel()
        for value in model.network.encode(torch.zeros(1, 3, 96, 128)).named_tensors().values()
    )
    for room, views in ((0, 1), (2 * size, 1), (4 * size, 2), (100 * size, 4)):
        batches = CachedBatches(pictures, model, OPTIONS, 0, views=4, max_memory_bytes=room)
        assert batches.views == views
        batches.batch(0)


def test_a_square_encoder_gives_whole_embeddings() -> None:
    picture = training_picture(
        LabelledImage("a", picture_of(discs()), discs()), TINY_VIT.preprocessing
    )
    model = make_model(TINY_VIT, "vit")
    batch = CachedBatches(
        [picture], model, BatchOptions((CropSize(128, 1, 3, 1.0),), 0.0, {}), 0, views=1
    ).batch(0)
    assert batch.features is not None
    assert batch.features.embedding.shape == (1, 32, 8, 8)
    assert not bool(batch.mask_known[:, 96:].any())  # padding: 48 x 64 becomes 96 x 128
    assert bool(batch.mask_known[:, :96].all())


def test_objects_that_vanish_are_refused() -> None:
    labels = np.zeros((100, 100), np.uint16)
    labels[50, 50] = 1
    picture = training_picture(
        LabelledImage("a", picture_of(labels), labels), TINY_PYRAMID.preprocessing
    )
    model: Model = make_model(TINY_PYRAMID, "tiny")
    with pytest.raises(DatasetError, match="no labelled object is large enough for the network"):
        CachedBatches([picture], model, OPTIONS, 0, views=1).batch(0)
    with pytest.raises(ValueError, match="views must be 1 or more, got 0"):
        CachedBatches([picture], model, OPTIONS, 0, views=0)
