"""Masks drawn in windows are those that the whole picture would have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_plugins.model.inference.full_size import SizeChain

CHAINS = [
    SizeChain((32, 32), (128, 128), (128, 96), (60, 45)),
    SizeChain((32, 32), (128, 128), (96, 128), (300, 400)),
    SizeChain((24, 40), (96, 160), (90, 150), (90, 150)),
    SizeChain((16, 16), (64, 64), (64, 1), (640, 10)),
    SizeChain((16, 16), (64, 64), (64, 64), (7, 7)),
]


def blobs(size_hw: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth logits, some of them with a small object only."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, size_hw[0] // 4, size_hw[1] // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(noise, size=size_hw, mode="bicubic")[0, 0]
    return (smooth - seed % 3).numpy()


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_window_equals_the_two_resizings_of_the_whole(chain: SizeChain, threshold: float) -> None:
    drawn_any = False
    for seed in range(12):
        logits = blobs(chain.low_res_hw, seed)
        whole = chain.enlarge(torch.from_numpy(logits)[None, None])[0, 0].numpy()
        window, mask = chain.draw(logits, threshold)
        drawn = np.zeros(chain.original_size_hw, bool)
        drawn[window] = mask
        differs = drawn != (whole > threshold)
        assert not differs[np.abs(whole - threshold) > 1e-5].any()
        drawn_any |= bool(drawn.any())
    assert drawn_any


def test_a_small_object_needs_a_small_window() -> None:
    logits = np.full((32, 32), -5, np.float32)
    logits[10, 20] = 5
    (rows, columns), mask = CHAINS[1].draw(logits)
    assert mask.any()
    assert rows.stop - rows.start < 30
    assert columns.stop - columns.start < 30


def test_nothing_is_drawn_of_a_mask_without_positives_or_in_the_padding() -> None:
    empty = np.full((32, 32), -1, np.float32)
    assert CHAINS[0].draw(empty).mask.size == 0
    empty[:, 28:] = 1  # columns 112 to 127 of an input that ends at 96
    assert CHAINS[0].draw(empty).mask.size == 0


@pytest.mark.parametrize("chain", CHAINS)
def test_a_cut_is_all_that_a_mask_needs(chain: SizeChain) -> None:
    for seed in range(12):
        logits = blobs(chain.low_res_hw, seed)
        window, mask = chain.draw(logits)
        cut = chain.cut(logits)
        logits[:] = 7  # a cut holds no view of the logits
        drawn = chain.draw_cut(cut)
        assert drawn.window == window
        np.testing.assert_array_equal(drawn.mask, mask)
        rows, columns = cut.cells
        assert cut.logits.shape == (rows.stop - rows.start, columns.stop - columns.start)


def test_the_cut_of_a_small_object_is_small_and_that_of_none_is_empty() -> None:
    logits = np.full((32, 32), -5, np.float32)
    assert CHAINS[1].cut(logits).logits.size == 0
    assert CHAINS[1].draw_cut(CHAINS[1].cut(logits)).mask.size == 0
    logits[10, 20] = 5
    assert 1 <= CHAINS[1].cut(logits).logits.size < 50


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="the input must fit into its padding"):
        SizeChain((8, 8), (32, 32), (33, 32), (5, 5))
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        SizeChain((8, 8), (32, 32), (32, 32), (0, 5))
    with pytest.raises(ValueError, match=r"logits must have shape \(32, 32\), got \(3, 3\)"):
        CHAINS[0].draw(np.zeros((3, 3), np.float32))
