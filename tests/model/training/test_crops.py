from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.io.rle import encode_mask
from sam_plugins.model.training.augment import augment
from sam_plugins.model.training.crops import MIN_AREA, draw_crop
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.training.synthetic import synthetic_picture


def disc_picture(**values: object) -> TrainingPicture:
    """Discs as bright as their label says, so that pixels tell which object they are."""
    labels = np.zeros((120, 160), np.uint16)
    rows, columns = np.indices(labels.shape)
    for number, (x, y, radius) in enumerate(((40, 40, 18), (110, 60, 25), (70, 100, 12)), 1):
        labels[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = number
    rgb = np.repeat((labels * 60)[..., None], 3, -1).astype(np.uint8)
    return TrainingPicture("discs", "0", rgb, labels, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.5])
def test_masks_lie_on_their_objects_however_the_crop_is_turned(scale: float) -> None:
    picture = disc_picture(network_scale=scale)
    seen = 0
    for seed in range(30):
        crop = draw_crop(picture, 96, 5, np.random.default_rng(seed))
        assert crop.rgb.shape == (96, 96, 3)
        for mask in crop.masks:
            assert mask.sum() >= MIN_AREA
            brightness = np.median(crop.rgb[..., 0][mask > 0])
            # Reduced to a few pixels, an object mixes with the ground.
            assert np.abs(brightness - np.array([60, 120, 180])).min() < 20
            object_pixels = (np.abs(crop.rgb[..., 0].astype(int) - brightness) < 8) & crop.is_inside
            overlap = (object_pixels & (mask > 0)).sum() / (object_pixels | (mask > 0)).sum()
            # Pixels at the rim, a source pixel wide, are mixtures; the rest is the same.
            assert overlap > 1 - 6 * max(1.0, scale) / np.sqrt(mask.sum())
            seen += 1
    assert seen > 20


def test_outside_of_the_picture_is_grey_and_not_known() -> None:
    picture = disc_picture(network_scale=0.4)
    crop = draw_crop(picture, 128, 5, np.random.default_rng(1))
    assert not crop.is_inside.all()
    assert not crop.known[~crop.is_inside].any()
    assert (crop.rgb[~crop.is_inside] == [124, 116, 104]).all()
    assert (crop.labels[~crop.is_inside] == 0).all()


def test_ignored_pixels_are_not_known() -> None:
    ignore = np.ones((120, 160), bool)
    crop = draw_crop(disc_picture(ignore=ignore), 64, 5, np.random.default_rng(0))
    assert not crop.known.any()


def test_a_covered_object_is_asked_for_as_a_whole() -> None:
    whole = np.zeros((120, 160), bool)
    whole[40:80, 60:150] = True  # reaches far beyond the disc that is visible
    picture = disc_picture(whole_rles={2: encode_mask(whole)}, is_upright=True)
    areas = []
    for seed in range(20):
        crop = draw_crop(picture, 256, 5, np.random.default_rng(seed))
        areas += [int(mask.sum()) for mask in crop.masks]
    assert max(areas) > 1.5 * np.pi * 25**2 * 0.6**2
    disc = (picture.labels == 2).sum()
    assert whole.sum() > 1.5 * disc


def test_what_fills_a_photograph_is_often_seen_as_a_whole() -> None:
    labels = np.zeros((400, 600), np.uint16)
    labels[40:360, 60:540] = 1  # 480 wide, five times a crop
    rgb = np.repeat((labels * 200)[..., None], 3, -1).astype(np.uint8)
    picture = TrainingPicture("photographs", "0", rgb, labels)
    crops = [draw_crop(picture, 96, 1, np.random.default_rng(seed)) for seed in range(60)]
    # An object that ends within the crop on all sides.
    whole = sum(
        bool(mask.any() and not (mask[0] | mask[-1] | mask[:, 0] | mask[:, -1]).any())
        for crop in crops
        for mask in crop.masks
    )
    assert 15 <= whole <= 45


def test_labels_of_a_crop_have_no_gaps() -> None:
    crop = draw_crop(disc_picture(), 200, 5, np.random.default_rng(3))
    present = np.unique(crop.labels)
    assert present.tolist() == list(range(len(present)))


def test_augmentation_keeps_shape_and_type_and_depends_on_the_seed_alone() -> None:
    rgb = synthetic_picture(np.random.default_rng(0), 64).rgb
    changed = [augment(rgb, np.random.default_rng(seed)) for seed in range(12)]
    assert all(one.shape == rgb.shape and one.dtype == np.uint8 for one in changed)
    assert len({one.tobytes() for one in changed}) > 8
    again = augment(rgb, np.random.default_rng(3))
    np.testing.assert_array_equal(again, changed[3])


def test_synthetic_pictures_have_objects_and_depend_on_the_seed_alone() -> None:
    kinds = set()
    for seed in range(12):
        picture = synthetic_picture(np.random.default_rng(seed), 128)
        again = synthetic_picture(np.random.default_rng(seed), 128)
        np.testing.assert_array_equal(picture.rgb, again.rgb)
        np.testing.assert_array_equal(picture.labels, again.labels)
        assert picture.labels.max() >= 1
        kinds.add(picture.id)
    assert kinds == {"blobs", "tiling"}
