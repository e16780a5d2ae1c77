"""Pictures that are seen much reduced: the warning, and that it names the tiled way."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.model.inference.automatic import segment
from sam_plugins.model.inference.reduction import (
    ReducedImageWarning,
    is_reduced_strip,
    needs_tiles,
)
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
        segment(image, make_model(TINY_PYRAMID, "tiny"))
    assert [one.filename for one in caught] == [__file__]


def test_usual_pictures_are_segmented_without_a_word() -> None:
    image = np.zeros((100, 256), np.uint8)
    image[3:9, 3:9] = 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment(image, make_model(TINY_PYRAMID, "tiny"))
