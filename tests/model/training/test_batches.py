from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sam_plugins.model.io.rle import encode_mask
from sam_plugins.model.networks.config import IMAGENET_MEAN
from sam_plugins.model.training import batches
from sam_plugins.model.training.batches import (
    BatchMaker,
    BatchOptions,
    CropSize,
    pictures_digest,
    set_shares,
)
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


def test_pictures_of_a_set_are_drawn_by_their_chances(pictures: list[TrainingPicture]) -> None:
    whites = [replace(one, rgb=np.full_like(one.rgb, 255), set_name="one") for one in pictures]
    blacks = [replace(one, rgb=np.zeros_like(one.rgb), set_name="one") for one in pictures]
    options = replace(OPTIONS, synthetic_share=0.0, plain_share=1.0)
    chances = [3.0] * len(whites) + [1.0] * len(blacks)
    maker = BatchMaker([*whites, *blacks], options, 0, chances)
    drawn = torch.cat(
        [maker.batch(step).images[:, 0].flatten(1).max(dim=1).values for step in range(60)]
    )
    assert 0.65 < (drawn == 255).float().mean() < 0.85
    assert maker.data_digest != BatchMaker([*whites, *blacks], options, 0).data_digest


@pytest.mark.parametrize("chances", [[], [1.0, 0.0]])
def test_chances_that_do_not_fit_are_refused(
    pictures: list[TrainingPicture], chances: list[float]
) -> None:
    with pytest.raises(ValueError, match="chances must be positive, one for each of 2 pictures"):
        BatchMaker(pictures[:2], OPTIONS, 0, chances)


def test_a_share_of_crops_looks_as_the_pictures_do(pictures: list[TrainingPicture]) -> None:
    colour = np.rint(IMAGENET_MEAN).astype(np.uint8)  # as outside of a picture
    flat = [replace(one, rgb=np.tile(colour, (128, 128, 1))) for one in pictures]

    def unchanged(share: float) -> float:
        options = replace(OPTIONS, synthetic_share=0.0, plain_share=share)
        maker = BatchMaker(flat, options, 0)
        are_plain = [
            (maker.batch(step).images == torch.from_numpy(colour)[:, None, None]).flatten(1).all(1)
            for step in range(40)
        ]
        return float(torch.cat(are_plain).float().mean())

    assert unchanged(1.0) == 1
    assert unchanged(0.0) + 0.3 < unchanged(0.5) < 0.9


def test_pictures_without_usable_objects_are_replaced() -> None:
    empty = TrainingPicture(
        "none", "0", np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint16)
    )
    batch = BatchMaker([empty], OPTIONS, 0).batch(0)
    assert len(batch.masks) > 0


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        BatchMaker([], OPTIONS, 0)


def test_only_what_lies_in_the_picture_changes_its_looks(pictures: list[TrainingPicture]) -> None:
    small = [replace(one, network_scale=0.3) for one in pictures]  # 38 pixels in crops of 64
    maker = BatchMaker(small, replace(OPTIONS, synthetic_share=0.0), 0)
    colour = torch.from_numpy(np.rint(IMAGENET_MEAN).astype(np.uint8))
    outside = 0
    for step in range(10):
        batch = maker.batch(step)
        beyond = batch.images.permute(0, 2, 3, 1)[~batch.mask_known]
        assert (beyond == colour).all()
        outside += len(beyond)
    assert outside > 10_000


def test_looks_of_photographs_are_changed_as_those_of_photographs(
    pictures: list[TrainingPicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(rgb: np.ndarray, _: np.random.Generator, *, is_upright: bool = False) -> np.ndarray:
        return np.full_like(rgb, 255 if is_upright else 0)

    monkeypatch.setattr(batches, "augment", told)
    options = replace(OPTIONS, synthetic_share=0.0)
    for is_upright, value in ((True, 255), (False, 0)):
        maker = BatchMaker([replace(one, is_upright=is_upright) for one in pictures], options, 0)
        batch = maker.batch(0)
        assert (batch.images.permute(0, 2, 3, 1)[batch.mask_known] == value).all()


def test_sets_without_a_share_count_by_a_power_of_their_size(
    pictures: list[TrainingPicture],
) -> None:
    counts = {"few": 1, "many": 16}
    for power, few in ((0.0, 1 / 2), (0.5, 1 / 5), (1.0, 1 / 17)):
        assert set_shares(counts, BatchOptions(power=power)) == pytest.approx([few, 1 - few])
    uneven = [replace(one, set_name="few" if i else "many") for i, one in enumerate(pictures[:5])]
    maker = BatchMaker(uneven, replace(OPTIONS, power=0.5), 0)
    assert maker.shares == pytest.approx([2 / 3, 1 / 3])


def test_the_digest_of_pictures_sees_all_that_teaches(pictures: list[TrainingPicture]) -> None:
    one = pictures[0]
    ignore = np.zeros(one.labels.shape, bool)
    elsewhere = ignore.copy()
    elsewhere[3, 4] = True
    labels, rgb = one.labels.copy(), one.rgb.copy()
    labels[0, 0] += 1
    rgb[5, 5, 1] ^= 1
    changed: dict[str, list[TrainingPicture]] = {
        field.name: [
            replace(one, **{field.name: value})
            for value in {
                "set_name": ["another"],
                "id": ["another"],
                "rgb": [rgb],
                "labels": [labels],
                "ignore": [ignore, elsewhere],
                "whole_rles": [{1: encode_mask(ignore)}, {1: encode_mask(elsewhere)},
                               {2: encode_mask(ignore)}],
                "complete": [False],
                "is_upright": [True],
                "network_scale": [2.0],
            }[field.name]
        ]
        for field in fields(TrainingPicture)
    }  # fmt: skip
    all_pictures = [one, *(picture for several in changed.values() for picture in several)]
    digests = [pictures_digest([picture]) for picture in all_pictures]
    assert len(set(digests)) == len(digests)
    assert pictures_digest([replace(one)]) == digests[0]
    assert pictures_digest(pictures[:2]) != pictures_digest(pictures[1::-1])
    assert pictures_digest([]) != digests[0]
