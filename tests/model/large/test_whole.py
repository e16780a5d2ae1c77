"""A picture in memory is looked at as a whole, or in windows where that shows more of it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import skimage.data

from sam_plugins.errors import MemoryLimitError
from sam_plugins.model.inference import memory
from sam_plugins.model.inference.automatic import object_regions
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.reduction import ReducedImageWarning
from sam_plugins.model.inference.rgb import to_rgb
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.types import ImageEmbedding, Segmentation
from sam_plugins.model.large.closer import closer_plan
from sam_plugins.model.large.whole import segment, segment_rgb

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("default")


def discs(size_hw: tuple[int, int], diameter: int, gap: int) -> Image:
    """Return bright discs on dark ground, in rows and columns."""
    away = [(np.arange(n) % gap) - gap // 2 for n in size_hw]
    bright = np.hypot(away[0][:, None], away[1][None]) < diameter / 2
    noise = np.random.default_rng(0).normal(0, 5, size_hw)
    values: npt.NDArray[np.float64] = 40 + 160 * bright + noise
    return values.clip(0, 255).astype(np.uint8)


def centres(size_hw: tuple[int, int], gap: int) -> list[tuple[int, int]]:
    """Return the centres of the discs that lie well inside, (row, column)."""
    rows, columns = (range(gap // 2, n - gap // 2 + 1, gap) for n in size_hw)
    return [(row, column) for row in rows for column in columns]


SIZE_HW, GAP = (300, 1500), 60  # seen at two thirds


@pytest.fixture(scope="module")
def found(model: Model) -> Segmentation:
    """Objects of a reduced picture of small discs, found without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return segment(discs(SIZE_HW, 12, GAP), model)


def test_small_discs_of_a_reduced_picture_are_each_found_once(
    model: Model, found: Segmentation
) -> None:
    numbers = [found.labels[place] for place in centres(SIZE_HW, GAP)]
    assert len(set(numbers) - {0}) == len(numbers) == 125
    assert len(found) == len(numbers)
    with pytest.warns(ReducedImageWarning):
        whole = segment(discs(SIZE_HW, 12, GAP), model, looks_closer=False)
    assert len(whole) < len(found)


def test_scores_and_points_are_those_of_the_labels_the_best_first(found: Segmentation) -> None:
    assert (np.diff(found.scores) <= 0).all()
    columns, rows = np.round(found.points_xy).astype(int).T
    np.testing.assert_array_equal(found.labels[rows, columns], np.arange(1, len(found) + 1))
    np.testing.assert_array_equal(np.unique(found.labels), np.arange(len(found) + 1))


@pytest.mark.parametrize(
    ("size_hw", "diameter", "gap", "is_closer"),
    [
        ((1000, 1400), 24, 60, True),
        ((1000, 1400), 120, 300, False),  # large objects
        ((700, 1000), 12, 40, False),  # seen as it is
    ],
)
def test_windows_are_for_many_small_objects_of_reduced_pictures(
    model: Model, size_hw: tuple[int, int], diameter: int, gap: int, is_closer: bool
) -> None:
    image = discs(size_hw, diameter, gap)
    plan = closer_plan(model, to_rgb(image))
    assert (plan is not None) == is_closer


def test_a_few_objects_are_no_reason_for_windows(model: Model) -> None:
    # At three places along it: four discs are fewer than ten however often they are seen.
    image = np.full((160, 1200, 3), 40, np.uint8)
    for place in (400, 500, 600, 700):
        image[70:82, place : place + 12] = 200
    assert closer_plan(model, image) is None


def test_discs_too_small_for_the_reduced_picture_are_looked_for_at_full_resolution(
    model: Model,
) -> None:
    image = to_rgb(discs((640, 2040), 8, 40))
    whole = object_regions(model, encode_rgb(model, image))
    assert np.sqrt(np.median(np.bincount(whole.ravel())[1:])) < 4  # specks
    plan = closer_plan(model, image)
    assert plan is not None
    assert plan.tile < 512


def test_windows_enlarge_no_more_than_the_model_allows(model: Model) -> None:
    plan = closer_plan(model, to_rgb(discs((300, 1200), 8, 24)))
    assert plan is not None
    assert plan.tile == 256  # 768 pixels of input, enlarged three times


@pytest.mark.parametrize("size_hw", [(60, 2100), (800, 2400)])
def test_a_picture_beyond_twice_the_input_is_looked_at_in_windows_half_as_long_as_it(
    model: Model, size_hw: tuple[int, int]
) -> None:
    image = to_rgb(discs(size_hw, 16, 100 if size_hw[0] > 60 else 60))
    plan = closer_plan(model, image)
    assert plan is not None
    assert plan.tile == 512
    found = segment_rgb(model, image)
    assert len(found) == len(centres(size_hw, 100 if size_hw[0] > 60 else 60))


def test_a_large_photograph_of_large_objects_is_looked_at_as_a_whole_with_a_warning(
    model: Model,
) -> None:
    photo = np.asarray(PIL.Image.fromarray(skimage.data.coffee()).resize((2400, 1600)))
    assert closer_plan(model, photo) is None
    with pytest.warns(ReducedImageWarning):
        found = segment(photo, model)
    assert len(found) > 0


def test_progress_grows_to_its_end_and_its_exception_stops_the_work(model: Model) -> None:
    image, told = discs((150, 1200), 12, 60), list[tuple[int, int]]()
    segment(image, model, progress=lambda done, total: told.append((done, total)))
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len({round(share, 2) for share in shares}) > 10

    def stop(done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(image, model, progress=stop)


def test_a_cached_encoding_of_every_window_gives_the_same(model: Model) -> None:
    image = np.repeat(discs((150, 1200), 12, 60)[..., None], 3, 2)
    kept: dict[bytes, ImageEmbedding] = {}

    def encode(rgb: Image) -> ImageEmbedding:
        return kept.setdefault(rgb.tobytes(), encode_rgb(model, rgb))

    first = segment_rgb(model, image, encode=encode)
    count = len(kept)
    again = segment_rgb(model, image, encode=encode)
    assert len(kept) == count > 3
    np.testing.assert_array_equal(first.labels, again.labels)


def test_a_picture_that_is_looked_at_as_a_whole_is_encoded_once(model: Model) -> None:
    shapes: list[tuple[int, ...]] = []

    def encode(rgb: Image) -> ImageEmbedding:
        shapes.append(rgb.shape)
        return encode_rgb(model, rgb)

    image = np.repeat(discs((900, 1200), 110, 220)[..., None], 3, 2)
    found = segment_rgb(model, image, encode=encode)
    assert len(found) >= 20
    assert shapes == [image.shape]


def test_labels_that_cannot_fit_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    image = discs((150, 1200), 12, 60)
    monkeypatch.setattr(memory, "available_bytes", lambda: 40_000)
    with pytest.raises(MemoryLimitError, match="label image of 150 x 1200 pixels"):
        segment(image, model)


def test_looks_closer_is_a_bool(model: Model) -> None:
    with pytest.raises(TypeError, match="looks_closer must be of type bool, got str"):
        segment(np.zeros((9, 9), np.uint8), model, looks_closer="no")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::sam_plugins.model.inference.reduction.ReducedImageWarning")
def test_the_blank_picture_has_no_objects_at_any_size(model: Model) -> None:
    for size_hw in ((40, 50), (20, 1500), (20, 3000)):
        found = segment(np.full(size_hw, 7, np.uint8), model)
        assert len(found) == 0
        assert found.labels.shape == size_hw


def test_a_larger_object_among_small_ones_is_one(model: Model) -> None:
    image = discs((320, 1500), 12, 40)
    y, x = np.ogrid[:320, :1500]
    image[np.hypot((y - 160) / 65, (x - 700) / 90) < 1] = 40
    blob = np.hypot((y - 160) / 50, (x - 700) / 70) < 1
    image[blob] = 200
    found = segment(image, model)
    assert len(found) > 250
    of_blob = found.labels == found.labels[160, 700]
    assert np.count_nonzero(of_blob & blob) / np.count_nonzero(of_blob | blob) > 0.85


def test_options_are_those_of_windows_too(model: Model) -> None:
    image = discs((150, 1200), 12, 60)
    assert closer_plan(model, to_rgb(image)) is not None
    none = replace(AUTO, labels=replace(AUTO.labels, min_area=10_000))
    assert len(segment(image, model, options=none)) == 0
    blind = replace(AUTO, seeds=replace(AUTO.seeds, min_foreground=1.0))
    assert closer_plan(model, to_rgb(image), blind) is None
