"""Crops and grids are the official ones."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from sam_plugins.model.inference.compat.crops import crop_boxes, is_cut_off, layer_grids


@pytest.mark.parametrize("size", [(300, 420), (427, 231), (50, 50), (3, 1000)])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("ratio", [512 / 1500, 0.0, 0.9])
def test_crop_boxes(official: ModuleType, size: tuple[int, int], layers: int, ratio: float) -> None:
    from segment_anything.utils import amg

    boxes, of_layer = amg.generate_crop_boxes(size, layers, ratio)
    assert crop_boxes(size, layers, ratio) == [
        (layer, tuple(box)) for layer, box in zip(of_layer, boxes, strict=True)
    ]


@pytest.mark.parametrize(("side", "layers", "factor"), [(32, 0, 1), (9, 2, 2), (5, 1, 1)])
def test_grids(official: ModuleType, side: int, layers: int, factor: int) -> None:
    from segment_anything.utils import amg

    theirs = amg.build_all_layer_point_grids(side, layers, factor)
    for mine, other in zip(layer_grids(side, layers, factor), theirs, strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("crop", [(0, 0, 300, 200), (50, 0, 250, 120), (90, 60, 300, 200)])
def test_masks_at_the_edge_of_a_crop(official: ModuleType, crop: tuple[int, ...]) -> None:
    from segment_anything.utils import amg

    corners = np.random.default_rng(0).integers(0, 140, (200, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    theirs = amg.is_box_near_crop_edge(torch.from_numpy(boxes), list(crop), [0, 0, 300, 200])
    mine = is_cut_off(boxes, crop, (200, 300))  # type: ignore[arg-type]
    assert np.array_equal(mine, theirs.numpy())
    assert crop == (0, 0, 300, 200) or 0 < mine.sum() < 200


def test_layers_without_points() -> None:
    with pytest.raises(ValueError, match="points for every layer, got 3, 1, 0 along a side; take"):
        layer_grids(3, 2, 2)
