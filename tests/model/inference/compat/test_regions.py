"""Small regions go where the official code removes them."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from sam_plugins.model.inference.compat.regions import remove_small_regions
from sam_plugins.model.inference.full_size import WindowMask

SIZE = (60, 80)


def drawn(mask: np.ndarray) -> WindowMask:
    """The mask within its window."""
    if not mask.any():
        return WindowMask((slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool))
    window = ndimage.find_objects(mask.astype(int))[0]
    return WindowMask(window, mask[window])


def official_answer(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """What segment_anything's mask generator does with one mask."""
    from segment_anything.utils.amg import remove_small_regions as remove

    filled, had_holes = remove(mask, min_area, mode="holes")
    kept, had_islands = remove(filled, min_area, mode="islands")
    return kept, had_holes or had_islands


def check(mask: np.ndarray, min_area: int) -> bool:
    """Compare, and tell whether something changed."""
    (window, kept), changed = remove_small_regions(drawn(mask), SIZE, min_area)
    whole = np.zeros(SIZE, bool)
    whole[window] = kept
    expected, was_changed = official_answer(mask, min_area)
    assert np.array_equal(whole, expected)
    assert changed == was_changed
    return changed


@pytest.mark.parametrize("min_area", [1, 4, 30, 400])
@pytest.mark.parametrize("seed", range(6))
def test_noise(official: ModuleType, seed: int, min_area: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SIZE), 1 + seed % 3)
    mask = noise > (seed - 2) * noise.std() / 2
    changed = check(mask, min_area)
    assert changed or min_area < 30


@pytest.mark.parametrize("min_area", [1, 10, 100, 1000, 5000])
@pytest.mark.parametrize(
    "window",
    [
        (slice(20, 40), slice(30, 50)),
        (slice(1, 59), slice(30, 50)),
        (slice(0, 60), slice(1, 80)),
        (slice(1, 60), slice(0, 80)),
        (slice(0, 60), slice(0, 80)),
        (slice(0, 0), slice(0, 0)),
    ],
)
def test_blocks_with_a_hole_near_the_border(
    official: ModuleType, window: tuple[slice, slice], min_area: int
) -> None:
    mask = np.zeros(SIZE, bool)
    mask[window] = True
    check(mask, min_area)
    mask[30:33, 35:38] = False
    check(mask, min_area)
