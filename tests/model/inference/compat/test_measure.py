"""Stability and boxes at the picture's size are those of whole, enlarged masks."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage

from sam_plugins.model.inference.compat.measure import _measure_whole, measure_masks
from sam_plugins.model.inference.full_size import SizeChain

SIZES = SizeChain((64, 64), (256, 256), (177, 256), (200, 290))


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    random = np.random.default_rng(0)
    maps = [ndimage.gaussian_filter(random.normal(size=(64, 64)), 4) for _ in range(40)]
    shifted = [60 * one - index % 8 for index, one in enumerate(maps)]
    return torch.from_numpy(np.stack([*shifted, np.full((64, 64), -9.0)]).astype(np.float32))


@pytest.mark.parametrize("offset", [1.0, 0.0, -0.5])
@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_against_the_official_functions(
    official: ModuleType, logits: torch.Tensor, threshold: float, offset: float
) -> None:
    from segment_anything.utils import amg

    large = SIZES.enlarge(logits[:, None])[:, 0]
    stability = amg.calculate_stability_score(large, threshold, offset).numpy()
    boxes = amg.batched_mask_to_box(large > threshold).numpy()
    for measure in (
        measure_masks(logits, SIZES, threshold=threshold, offset=offset, min_stability=-np.inf),
        _measure_whole(logits, SIZES, threshold, offset, 0.0),
    ):
        assert measure.stability.dtype == np.float32
        np.testing.assert_allclose(measure.stability, stability, atol=1e-3)
        assert np.isnan(measure.stability[-1])
        assert np.array_equal(measure.boxes_xyxy, boxes)


def test_boxes_of_unstable_masks_are_not_looked_for(logits: torch.Tensor) -> None:
    all_of_them, stable = (
        measure_masks(logits, SIZES, threshold=0, offset=1, min_stability=least)
        for least in (0.0, 0.7)
    )
    is_stable = all_of_them.stability >= 0.7
    assert 0 < is_stable.sum() < len(logits)
    assert np.array_equal(stable.boxes_xyxy[is_stable], all_of_them.boxes_xyxy[is_stable])
    assert not stable.boxes_xyxy[~is_stable].any()


def test_nothing() -> None:
    empty = torch.zeros(0, 64, 64)
    for measured in (
        measure_masks(empty, SIZES, threshold=0, offset=1, min_stability=0),
        _measure_whole(empty, SIZES, 0, 1, 0),
    ):
        assert measured.stability.shape == (0,)
        assert measured.boxes_xyxy.shape == (0, 4)
