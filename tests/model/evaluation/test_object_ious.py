"""IoU in windows agree with drawing every mask at full size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sam_plugins.model.evaluation.metrics import mask_iou
from sam_plugins.model.evaluation.object_ious import measure_ious
from sam_plugins.model.evaluation.prompts import true_objects
from sam_plugins.model.inference.full_size import SizeChain

SizeHW = tuple[int, int]

SIZES = SizeChain((32, 32), (128, 128), (128, 96), (200, 150))


def drawn_in_full(logits: np.ndarray, sizes: SizeChain, threshold: float = 0.0) -> np.ndarray:
    """SAM's post-processing, step by step."""
    inner = sizes.input_size_hw
    tensor = torch.from_numpy(logits)[:, None]
    tensor = functional.interpolate(tensor, sizes.padded_size_hw, mode="bilinear")
    tensor = tensor[..., : inner[0], : inner[1]]
    tensor = functional.interpolate(tensor, sizes.original_size_hw, mode="bilinear")
    return (tensor[:, 0] > threshold).numpy()


def blobs(count: int, size_hw: SizeHW, seed: int) -> np.ndarray:
    """Smooth logits: some blobs, one empty, one all positive, one with stray pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    logits = np.stack(
        [
            rng.uniform(1, 6)
            - np.hypot(rows - rng.uniform(0, size_hw[0]), columns - rng.uniform(0, size_hw[1]))
            for _ in range(count)
        ]
    ).astype(np.float32)
    logits[0] = -1
    logits[1] = 1
    logits[2, 0, 0] = logits[2, -1, -1] = 5
    return logits


@pytest.mark.parametrize("with_ignore", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_ious_equal_the_ious_of_full_masks(with_ignore: bool, threshold: float) -> None:
    full = SIZES.original_size_hw
    labels = np.zeros(full, np.uint16)
    labels[10:60, 20:70] = 1
    labels[100:180, 5:140] = 7
    labels[0, 0] = 9
    objects = list(true_objects(labels))
    logits = blobs(9, SIZES.low_res_hw, seed=1)
    ignore = np.zeros(full, bool)
    if with_ignore:
        ignore[:, 40:60] = True
    ious = measure_ious(
        logits.reshape(3, 3, *SIZES.low_res_hw),
        objects,
        SIZES,
        threshold=threshold,
        counted=~ignore if with_ignore else None,
    )
    expected = drawn_in_full(logits, SIZES, threshold).reshape(3, 3, *full)
    for index, one in enumerate(objects):
        for which in range(3):
            truth = mask_iou(labels == one.object_id, expected[index, which], ignore=ignore)
            assert ious[index, which] == pytest.approx(truth, abs=1e-3)


def test_an_object_of_which_no_pixel_counts_has_no_iou() -> None:
    labels = np.array([[1, 1], [0, 0]])
    sizes = SizeChain((2, 2), (2, 2), (2, 2), (2, 2))
    ious = measure_ious(
        np.ones((1, 1, 2, 2), np.float32), list(true_objects(labels)), sizes, counted=labels == 0
    )
    assert np.isnan(ious).all()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (0, 3, 32, 31), (0, 32, 32)])
def test_wrong_sizes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits must have shape \(0, C, 32, 32\), got \("):
        measure_ious(np.zeros(shape, np.float32), [], SIZES)
