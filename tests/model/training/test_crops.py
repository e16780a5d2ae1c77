from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

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


def nested_picture() -> TrainingPicture:
    """A box with a smaller one in it, which has one in it: 3 in 2 in 1; and 4 apart."""
    labels = np.zeros((120, 160), np.uint16)
    wholes = {}
    for number, inset in ((1, 10), (2, 30), (3, 50)):
        labels[inset : 120 - inset, inset : 120 - inset] = number
        wholes[number] = encode_mask(labels >= number)
    labels[10:60, 130:150] = 4
    rgb = np.repeat((labels * 60)[..., None], 3, -1).astype(np.uint8)
    return TrainingPicture(
        "boxes", "0", rgb, labels, whole_rles={1: wholes[1], 2: wholes[2]}, is_upright=True
    )


def test_the_smallest_whole_around_a_part_is_known() -> None:
    assert nested_picture().outer_labels == {2: 1, 3: 2}
    assert disc_picture().outer_labels == {}


def test_a_part_comes_with_the_whole_around_it() -> None:
    seen = 0
    for seed in range(20):
        crop = draw_crop(nested_picture(), 128, 5, np.random.default_rng(seed))
        assert crop.outer_masks.shape == crop.masks.shape
        for mask, outer in zip(crop.masks > 0, crop.outer_masks > 0, strict=True):
            seen_in_it = set((crop.rgb[..., 0][mask]).tolist())
            is_part = not seen_in_it & {60, 240}
            assert outer.any() == is_part
            assert not (mask & ~outer).any() or not is_part
            seen += is_part
    assert seen > 20


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


def turns(picture: TrainingPicture, count: int = 80) -> np.ndarray:
    """Angles, in radians, between down in crops and down in a picture that is darker farther up."""
    angles = []
    for seed in range(count):
        crop = draw_crop(picture, 64, 5, np.random.default_rng(seed))
        y, x = np.nonzero(crop.is_inside)
        plane = np.stack([x, y, np.ones_like(x)], axis=1)
        slope, *_ = np.linalg.lstsq(plane, crop.rgb[y, x, 0].astype(float), rcond=None)
        angles.append(np.arctan2(slope[0], slope[1]))
    return np.array(angles)


def test_photographs_stay_upright_and_other_pictures_are_turned_freely() -> None:
    picture = disc_picture()
    ramp = np.broadcast_to((np.arange(120) * 2)[:, None, None], (120, 160, 3)).astype(np.uint8)
    picture = replace(picture, rgb=ramp)
    upright = np.abs(turns(replace(picture, is_upright=True)))
    assert upright.max() < 0.5  # four times 0.12, in radians
    assert (upright < 0.02).mean() > 0.6
    assert (upright > 0.03).any()  # nobody holds a camera quite level
    free = turns(picture)
    quarters = np.rint(free / (np.pi / 2)).astype(int) % 4
    assert (np.bincount(quarters, minlength=4) > 10).all()
    assert (np.abs(np.sin(2 * free)) > 0.3).mean() > 0.15  # between the quarters, too


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


def test_photographs_are_changed_less() -> None:
    """Half as often inverted and coloured anew, and half as far in brightness."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(100, 156, (64, 64, 3)).astype(np.uint8)
    rgb[32:] += 60
    rgb[..., 0] += 30

    def measured(*, is_upright: bool) -> tuple[set[int], set[int], float]:
        inverted, coloured, means = set(), set(), []
        for seed in range(600):
            changed = augment(rgb, np.random.default_rng(seed), is_upright=is_upright).astype(int)
            if changed[32:].mean() < changed[:32].mean():
                inverted.add(seed)
            elif changed[..., 0].mean() < changed[..., 1:].mean() - 2:
                coloured.add(seed)
            means.append(changed.mean())
        return inverted, coloured, float(np.quantile(means, 0.9) - np.quantile(means, 0.1))

    photographs, others = measured(is_upright=True), measured(is_upright=False)
    assert 600 * 0.10 < len(others[0]) < 600 * 0.20
    assert 600 * 0.04 < len(photographs[0]) < 600 * 0.11
    assert photographs[0] < others[0]  # drawn from the same numbers
    assert 10 < len(photographs[1]) < 0.75 * len(others[1])
    assert photographs[2] < 0.75 * others[2]


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


def test_some_noise_is_as_coarse_as_in_a_picture_that_is_enlarged() -> None:
    grey = np.full((96, 128, 3), 128, np.uint8)
    likeness, deviations = [], []
    for seed in range(300):
        noisy = augment(grey, np.random.default_rng(seed)).astype(float)[..., 0]
        noise = noisy - ndimage.uniform_filter(noisy, 15)
        if noise.std() > 4:
            beside = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
            likeness.append(beside)
            deviations.append(noise.std() / 255)
    assert min(likeness) < 0.1
    assert max(likeness) > 0.7
    assert max(deviations) > 0.12
