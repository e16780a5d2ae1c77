"""The windows agree with drawing every mask at full size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sam_plugins.model.evaluation.full_size import FullSizeMasks
from sam_plugins.model.evaluation.metrics import mask_iou
from sam_plugins.model.evaluation.prompts import true_objects

SizeHW = tuple[int, int]


def drawn_in_full(
    logits: np.ndarray, padded: SizeHW, inner: SizeHW, full: SizeHW, threshold: float = 0.0
) -> np.ndarray:
    """SAM's post-processing, step by step."""
    tensor = torch.from_numpy(logits)[:, None]
    tensor = functional.interpolate(tensor, padded, mode="bilinear", align_corners=False)
    tensor = tensor[..., : inner[0], : inner[1]]
    tensor = functional.interpolate(tensor, full, mode="bilinear", align_corners=False)
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


SIZES = [
    ((32, 32), (128, 128), (128, 96), (200, 150)),  # SAM: a square, padded
    ((32, 24), (128, 96), (120, 96), (60, 48)),  # a reduced picture
    ((16, 16), (64, 64), (64, 64), (64, 64)),
    ((64, 64), (64, 64), (40, 64), (5, 8)),  # low pixels are jumped over
    ((8, 8), (32, 32), (3, 32), (1, 11)),
]


@pytest.mark.parametrize(("low", "padded", "inner", "full"), SIZES)
def test_windows_hold_the_mask_that_full_drawing_gives(
    low: SizeHW, padded: SizeHW, inner: SizeHW, full: SizeHW
) -> None:
    logits = blobs(12, low, seed=3)
    masks = FullSizeMasks(low, padded_size_hw=padded, input_size_hw=inner, original_size_hw=full)
    expected = drawn_in_full(logits, padded, inner, full)
    for (window, mask), truth in zip(masks.windows(logits), expected, strict=True):
        whole = np.zeros(full, dtype=bool)
        whole[window] = mask
        # Pixels that are exactly on the threshold may fall on either side by rounding.
        assert np.count_nonzero(whole != truth) <= 1
    assert masks.windows(logits)[0][1].size == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    low=st.integers(4, 20),
    scale=st.integers(1, 4),
    cut=st.floats(0.3, 1.0),
    full=st.integers(1, 90),
)
def test_windows_for_any_size(seed: int, low: int, scale: int, cut: float, full: int) -> None:
    padded = (low * scale, (low + 3) * scale)
    inner = (max(1, int(padded[0] * cut)), padded[1])
    logits = blobs(4, (low, low + 3), seed)
    masks = FullSizeMasks(
        (low, low + 3),
        padded_size_hw=padded,
        input_size_hw=inner,
        original_size_hw=(full, full + 7),
        threshold=0.3,
    )
    expected = drawn_in_full(logits, padded, inner, (full, full + 7), threshold=0.3)
    for (window, mask), truth in zip(masks.windows(logits), expected, strict=True):
        whole = np.zeros_like(truth)
        whole[window] = mask
        assert np.count_nonzero(whole != truth) <= 2


@pytest.mark.parametrize("with_ignore", [False, True])
def test_ious_equal_the_ious_of_full_masks(with_ignore: bool) -> None:
    low, padded, inner, full = SIZES[0]
    labels = np.zeros(full, np.uint16)
    labels[10:60, 20:70] = 1
    labels[100:180, 5:140] = 7
    labels[0, 0] = 9
    objects = list(true_objects(labels))
    logits = blobs(9, low, seed=1).reshape(3, 3, *low)
    ignore = np.zeros(full, bool)
    if with_ignore:
        ignore[:, 40:60] = True
    masks = FullSizeMasks(low, padded_size_hw=padded, input_size_hw=inner, original_size_hw=full)
    ious = masks.ious(logits, objects, counted=~ignore if with_ignore else None)
    expected = drawn_in_full(logits.reshape(9, *low), padded, inner, full).reshape(3, 3, *full)
    for index, one in enumerate(objects):
        for which in range(3):
            truth = mask_iou(labels == one.object_id, expected[index, which], ignore=ignore)
            assert ious[index, which] == pytest.approx(truth, abs=1e-3)


def test_an_object_of_which_no_pixel_counts_has_no_iou() -> None:
    labels = np.array([[1, 1], [0, 0]])
    masks = FullSizeMasks(
        (2, 2), padded_size_hw=(2, 2), input_size_hw=(2, 2), original_size_hw=(2, 2)
    )
    ious = masks.ious(
        np.ones((1, 1, 2, 2), np.float32), list(true_objects(labels)), counted=labels == 0
    )
    assert np.isnan(ious).all()


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"must fit into its padding, got low_res_hw \(4, 4\)"):
        FullSizeMasks((4, 4), padded_size_hw=(8, 8), input_size_hw=(9, 8), original_size_hw=(8, 8))
    masks = FullSizeMasks(
        (4, 4), padded_size_hw=(8, 8), input_size_hw=(8, 8), original_size_hw=(8, 8)
    )
    with pytest.raises(ValueError, match=r"logits must have shape \(n, \(4, 4\)\), got \(1, 5, 4"):
        masks.windows(np.zeros((1, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"shape \(0, C, \(4, 4\)\), got \(1, 3, 4, 4\)"):
        masks.ious(np.zeros((1, 3, 4, 4), np.float32), [])
