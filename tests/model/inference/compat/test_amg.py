"""The functions of segment_anything.utils.amg that programs use give its answers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

import sam_plugins

SIZE = (40, 57)


@pytest.fixture(scope="module")
def amg(official: ModuleType) -> ModuleType:
    from segment_anything.utils import amg

    del official  # it has the stand-ins that the import needs
    return amg


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    """Maps from fine noise to large blobs, one that is full, one that is empty."""
    random = np.random.default_rng(0)
    maps = [ndimage.gaussian_filter(random.normal(size=SIZE), i / 4) for i in range(12)]
    maps = [9 * one / one.std() - i for i, one in enumerate(maps)]
    return torch.from_numpy(np.stack([*maps, np.full(SIZE, 9.0), np.full(SIZE, -9.0)])).float()


@pytest.fixture(scope="module")
def masks(logits: torch.Tensor) -> torch.Tensor:
    return logits > 0


def test_run_lengths(amg: ModuleType, masks: torch.Tensor) -> None:
    theirs = amg.mask_to_rle_pytorch(masks)
    assert sam_plugins.mask_to_rle_pytorch(masks) == theirs
    assert sam_plugins.mask_to_rle_pytorch(masks.to(torch.uint8)) == theirs
    assert sam_plugins.mask_to_rle_pytorch(masks[:0]) == []
    for rle, mask in zip(theirs, masks.numpy(), strict=True):
        assert np.array_equal(sam_plugins.rle_to_mask(rle), mask)
        assert sam_plugins.area_from_rle(rle) == amg.area_from_rle(rle) == mask.sum()


def test_run_lengths_of_coco(amg: ModuleType, masks: torch.Tensor) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (extra: evaluate)")
    for rle in amg.mask_to_rle_pytorch(masks):
        assert sam_plugins.coco_encode_rle(rle) == amg.coco_encode_rle(rle)


@pytest.mark.parametrize("shape", [SIZE, (14, *SIZE), (2, 7, *SIZE), (0, *SIZE), (2, 0, *SIZE)])
def test_boxes(amg: ModuleType, masks: torch.Tensor, shape: tuple[int, ...]) -> None:
    chosen = masks[: int(np.prod(shape[:-2]))].reshape(shape)
    ours = sam_plugins.batched_mask_to_box(chosen)
    theirs = amg.batched_mask_to_box(chosen)
    assert ours.dtype == torch.int64
    assert ours.shape == theirs.shape
    assert torch.equal(ours, theirs.long())  # of no masks, theirs are of float32


@pytest.mark.parametrize(("threshold", "offset"), [(0.0, 1.0), (2.0, 0.5), (0.0, 0.0)])
def test_stability(amg: ModuleType, logits: torch.Tensor, threshold: float, offset: float) -> None:
    for given in (logits, logits.reshape(2, 7, *SIZE), logits[0]):
        ours = sam_plugins.calculate_stability_score(given, threshold, offset)
        theirs = amg.calculate_stability_score(given, threshold, offset)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours.nan_to_num(-1), theirs.nan_to_num(-1))
        assert given.ndim == 2 or ours.isnan().sum() == 1


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("area", [0, 2, 7.5, 60, 10_000])
def test_small_regions(amg: ModuleType, masks: torch.Tensor, mode: str, area: float) -> None:
    pytest.importorskip("cv2")
    for mask in masks.numpy():
        ours, is_ours_changed = sam_plugins.remove_small_regions(mask, area, mode)
        theirs, is_theirs_changed = amg.remove_small_regions(mask, area, mode)
        assert is_ours_changed == is_theirs_changed
        assert np.array_equal(ours, theirs)
        assert (ours is mask) == (not is_ours_changed)


def test_of_equally_small_islands_the_first_stays() -> None:
    mask = np.zeros((4, 9), bool)
    mask[1, 0] = mask[0, 5] = mask[3, 8] = True
    kept, is_changed = sam_plugins.remove_small_regions(mask, 2, "islands")
    assert is_changed
    assert np.argwhere(kept).tolist() == [[0, 5]]


def test_grids(amg: ModuleType) -> None:
    for side in (1, 2, 32):
        assert np.array_equal(sam_plugins.build_point_grid(side), amg.build_point_grid(side))
    ours = sam_plugins.build_all_layer_point_grids(32, 2, 2)
    theirs = amg.build_all_layer_point_grids(32, 2, 2)
    assert [len(grid) for grid in ours] == [1024, 256, 64]
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, other)


def test_a_program_with_its_import_changed(masks: torch.Tensor) -> None:
    """From the generator's own records to a cleaned mask and back to a string."""
    from sam_plugins import coco_encode_rle, mask_to_rle_pytorch, remove_small_regions, rle_to_mask

    for mask in masks.numpy():
        filled, _ = remove_small_regions(mask, 30, mode="holes")
        kept, _ = remove_small_regions(filled, area_thresh=30, mode="islands")
        (rle,) = mask_to_rle_pytorch(torch.as_tensor(kept)[None])
        assert np.array_equal(rle_to_mask(coco_encode_rle(rle)), kept)


FLAT = torch.zeros(5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "says"),
    [
        ("mask_to_rle_pytorch", (FLAT[None],), ValueError, r"must have shape \(B, H, W\), got \(1"),
        ("mask_to_rle_pytorch", (torch.zeros(1, 2, 2),), TypeError, "got torch.float32; of logits"),
        ("batched_mask_to_box", (FLAT,), ValueError, r"must have shape \(\.\.\., H, W\), got \(5,"),
        ("batched_mask_to_box", (torch.zeros(2, 2),), TypeError, "of type bool, or of whole numb"),
        ("build_point_grid", (0,), ValueError, "n_per_side must be 1 or more, got 0"),
        ("build_all_layer_point_grids", (0, 1, 1), ValueError, "n_per_side must be 1 or more"),
        ("remove_small_regions", (np.ones((2, 2), bool), 3, "all"), ValueError, "mode must be 'ho"),
        ("remove_small_regions", (np.ones(4, bool), 3, "holes"), ValueError, r"\(H, W\), got \(4,"),
        ("remove_small_regions", (np.ones((2, 2)), 3, "holes"), TypeError, "got float64; of logi"),
        ("rle_to_mask", ({"size": [2, 2], "counts": [3]},), ValueError, "must add up to 2 x 2"),
    ],
)
def test_what_is_refused(
    name: str, arguments: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        getattr(sam_plugins, name)(*arguments)
