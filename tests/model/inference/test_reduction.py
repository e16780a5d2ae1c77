"""Pictures that are seen much reduced: the warning, and that it names the tiled way."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from PIL import Image
from tests.model.inference.tiny_models import TINY_PYRAMID, TINY_VIT, make_model

from sam_plugins.model.inference.automatic import object_regions
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.reduction import (
    ReducedImageWarning,
    is_reduced_strip,
    needs_tiles,
    shows_small_objects,
)
from sam_plugins.model.inference.seeds import CELL
from sam_plugins.model.inference.segment_options import SegmentOptions
from sam_plugins.model.large.whole import segment
from sam_plugins.model.networks.config import Preprocessing


def test_tiles_pay_from_twice_the_longest_input() -> None:
    assert not needs_tiles((2048, 900), Preprocessing())
    assert needs_tiles((2049, 900), Preprocessing())


def test_strips_are_long_narrow_and_reduced() -> None:
    assert is_reduced_strip((1100, 137), Preprocessing())
    assert not is_reduced_strip((1100, 138), Preprocessing())
    assert not is_reduced_strip((30, 1024), Preprocessing())


@pytest.mark.parametrize(
    ("size_hw", "seen"), [((300, 260), r"128 x 111"), ((12, 160), r"10 x 128")]
)
def test_segment_names_the_tiled_way(size_hw: tuple[int, int], seen: str) -> None:
    image = np.zeros(size_hw, np.uint8)
    image[3:9, 3:9] = 200
    pixels = f"of {size_hw[0]} x {size_hw[1]} pixels reduced to {seen}"
    with pytest.warns(ReducedImageWarning, match=f"{pixels}, .*with segment_large") as caught:
        segment(image, make_model(TINY_PYRAMID, "tiny"), looks_closer=False)
    assert [one.filename for one in caught] == [__file__]


def test_usual_pictures_are_segmented_without_a_word() -> None:
    image = np.zeros((100, 256), np.uint8)
    image[3:9, 3:9] = 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment(image, make_model(TINY_PYRAMID, "tiny"))


def discs(size_hw: tuple[int, int], diameter: int, gap: int) -> npt.NDArray[np.uint8]:
    """Return bright discs on dark ground, in rows and columns."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    away = [(np.arange(n) % gap) - gap // 2 for n in size_hw]
    bright = np.hypot(away[0][:, None], away[1][None]) < diameter / 2
    noise = np.random.default_rng(0).normal(0, 5, size_hw)
    kept = (rows < gap) & (columns < 24 * gap)
    values: npt.NDArray[np.float64] = 40 + 160 * (bright & kept) + noise
    return values.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("diameter", "is_warned"), [(14, True), (40, False)])
def test_small_objects_of_a_reduced_picture_are_warned_of(diameter: int, is_warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        segment(discs((500, 2000), diameter, 64), "default", looks_closer=False)
    named = [(one.category, one.filename) for one in caught]
    assert named == [(ReducedImageWarning, __file__)] * is_warned


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_reduced_photographs_are_not_warned_of(name: str) -> None:
    model = load_model("default")
    photo = Image.fromarray(getattr(skimage.data, name)()).resize((2000, 1400))
    regions = object_regions(model, encode_image(model, np.asarray(photo)))
    assert regions.any()
    assert not shows_small_objects(regions, CELL**2)


def test_a_model_without_instance_decoder_tells_by_what_it_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = np.eye(180, dtype=np.uint8) * 200
    model = make_model(TINY_VIT, "tiny")
    few = SegmentOptions(points_per_side=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment(image, model, mode="grid", options=few)
    monkeypatch.setattr("sam_plugins.model.inference.reduction.SMALL", 1e6)
    monkeypatch.setattr("sam_plugins.model.inference.reduction._SOME", 0)
    with pytest.warns(ReducedImageWarning, match="of 180 x 180 pixels reduced to 128 x 128"):
        segment(image, model, mode="grid", options=few)


def test_specks_beside_objects_and_a_few_of_them_are_no_small_objects() -> None:
    specks = np.zeros((40, 200), np.int32)
    specks[2::4, 2::8] = np.arange(1, 251).reshape(10, 25)
    assert shows_small_objects(specks, 16)
    assert not shows_small_objects(specks * (specks < 10), 16)
    specks[:20, :20] = 251
    assert not shows_small_objects(specks, 16)
