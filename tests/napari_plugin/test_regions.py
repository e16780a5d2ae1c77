"""Which part of a large plane is shown: it holds what was said, and all of what was answered."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_plugins.model.large.zoom import Extent
from sam_plugins.napari_plugin.coordinates import REGION_SIDE, WHOLE_SIDE
from sam_plugins.napari_plugin.regions import choose_region, extent_of, wider_region
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Window
from sam_plugins.napari_plugin.session.values import BoxPrompt, MaskPrompt, PointPrompt

sizes = st.integers(1, 40000)


def spot(x: float, y: float) -> Extent:
    return Extent(x, y, x, y)


@given(sizes, sizes, st.data(), st.sampled_from([0.0, 500.0, 3000.0, 1e5]))
def test_a_region_holds_its_point_with_room_around(
    height: int, width: int, data: st.DataObject, seen: float
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = choose_region((height, width), spot(x, y), seen_side=seen)
    assert region == region.within((height, width))
    assert region.top <= y < region.bottom
    assert region.left <= x < region.right
    if max(height, width) <= WHOLE_SIDE:
        assert region == Window(0, 0, height, width)
    for low, high, value, length in (
        (region.left, region.right, x, width),
        (region.top, region.bottom, y, height),
    ):
        room = min(value - low, high - 1 - value)
        assert room >= (high - low) // 4 - 1 or low == 0 or high == length


def test_neighbouring_points_share_a_region_and_a_wide_look_gets_a_wide_one() -> None:
    size = (20000, 20000)
    regions = {choose_region(size, spot(5000 + i, 7000)) for i in range(0, 200, 20)}
    assert len(regions) <= 2
    assert choose_region(size, spot(5000, 7000)).shape == (REGION_SIDE, REGION_SIDE)
    assert choose_region(size, spot(5000, 7000), seen_side=4000).shape == (4096, 4096)
    assert choose_region(size, spot(5000, 7000), seen_side=1e6) == Window(0, 0, *size)


@given(sizes, sizes, st.data())
def test_a_box_of_any_size_is_held_with_room_around(
    height: int, width: int, data: st.DataObject
) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0, width - 1)), data.draw(st.integers(y0, height - 1))
    region = choose_region((height, width), Extent(x0, y0, x1, y1))
    assert region.left <= x0 <= x1 < region.right
    assert region.top <= y0 <= y1 < region.bottom
    is_whole = region.shape == (height, width)
    assert is_whole or max(x1 - x0, y1 - y0) <= max(region.shape) / 2


@given(st.integers(2049, 40000), st.integers(1, 40000), st.data())
def test_what_goes_on_beyond_a_region_is_shown_whole_in_the_end(
    height: int, width: int, data: st.DataObject
) -> None:
    size = height, width
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = choose_region(size, spot(x, y))
    for _ in range(10):  # an object without end: each answer fills all that is shown
        wider = wider_region(size, region, spot(x, y), region)
        if wider is None:
            break
        assert wider.within(size) == wider
        assert max(wider.shape) > max(region.shape)
        region = wider
    assert region == Window(0, 0, height, width)


def test_what_prompts_are_about() -> None:
    mask = MaskCrop.of(np.ones((3, 5), bool), (10, 20))
    assert extent_of([MaskPrompt(mask)]) == (20, 10, 24, 12)
    assert extent_of([BoxPrompt(1, 2, 3, 4), PointPrompt(30, 0)]) == (1, 0, 30, 4)
    with pytest.raises(ValueError, match="at least one prompt, got none"):
        extent_of([])


def test_nobody_waits_for_pytorch_to_know_a_region() -> None:
    code = "import sys, sam_plugins.napari_plugin.regions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
