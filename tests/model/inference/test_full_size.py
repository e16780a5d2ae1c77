"""Masks drawn in windows are those that the whole picture would have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.model.inference import full_size
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
    chain = SizeChain((low, low + 3), padded, inner, (full, full + 7))
    logits = np.random.default_rng(seed).normal(size=(low, low + 3)).astype(np.float32)
    whole = chain.enlarge(torch.from_numpy(logits)[None, None])[0, 0].numpy()
    window, mask = chain.draw(logits, 0.3)
    drawn = np.zeros(chain.original_size_hw, bool)
    drawn[window] = mask
    assert not (drawn != (whole > 0.3))[np.abs(whole - 0.3) > 1e-5].any()


def test_a_long_side_takes_little_memory_and_gives_the_same() -> None:
    long = SizeChain((64, 64), (256, 256), (1, 256), (2, 50_000))
    _, axis = long._axes()
    assert axis.matrix is None
    assert sum(a.nbytes for a in (axis.band, axis.support, axis.reach)) < 2_000_000
    logits = blobs((64, 64), 0)
    whole = long.enlarge(torch.from_numpy(logits)[None, None])[0, 0].numpy()
    window, mask = long.draw(logits)
    drawn = np.zeros(long.original_size_hw, bool)
    drawn[window] = mask
    assert drawn.any()
    assert not (drawn != (whole > 0))[np.abs(whole) > 1e-4].any()


@pytest.mark.parametrize("chain", CHAINS)
def test_a_band_holds_what_the_matrix_does(chain: SizeChain) -> None:
    for axis in chain._axes():
        assert axis.matrix is not None
        full, low = axis.matrix.shape
        alone = replace(axis, matrix=None)
        np.testing.assert_array_equal(alone.weights(slice(0, full), slice(0, low)), axis.matrix)
        np.testing.assert_allclose(axis.matrix.sum(axis=1), 1, rtol=1e-6)
        for first, last in ((0, low - 1), (low // 3, low // 2), (low - 1, low - 1)):
            rows, cells = axis.window(first, last)
            np.testing.assert_array_equal(alone.weights(rows, cells), axis.matrix[rows, cells])


def test_the_axes_that_are_kept_are_bounded() -> None:
    assert full_size._MAX_AXES * 4 * full_size._MAX_DENSE <= 1 << 26
    assert full_size._axis.cache_info().maxsize == full_size._MAX_AXES


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
