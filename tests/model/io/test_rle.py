"""COCO RLE against pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.io.rle import decode_mask, encode_mask

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))

SPECIAL = {
    "empty": np.zeros((4, 6), bool),
    "full": np.ones((4, 6), bool),
    "first pixel": np.eye(5, dtype=bool) & (np.arange(5) == 0),
    "last pixel": np.eye(5, dtype=bool) & (np.arange(5) == 4),
    "one column": np.tile([False, True, False], (7, 1)),
    "two columns": np.tile([False, True, True, False], (7, 1)),
    "stripes": np.tile([[True], [False]], (8, 5)),
    "noise": np.random.default_rng(0).random((60, 41)) > 0.5,
    "large": np.add.outer(np.arange(700), np.arange(900)) % 600 > 590,
}


def official(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    encoded: dict[str, Any] = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@pytest.mark.parametrize("name", SPECIAL)
def test_as_pycocotools(name: str) -> None:
    mask = SPECIAL[name]
    assert encode_mask(mask) == official(mask)
    np.testing.assert_array_equal(decode_mask(official(mask)), mask)


@given(masks)
@settings(max_examples=100, deadline=None)
def test_any_mask_as_pycocotools(mask: npt.NDArray[np.bool_]) -> None:
    assert encode_mask(mask) == official(mask)


@given(masks, st.booleans())
def test_there_and_back(mask: npt.NDArray[np.bool_], compressed: bool) -> None:
    np.testing.assert_array_equal(decode_mask(encode_mask(mask, compressed=compressed)), mask)


@given(masks, st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))
def test_a_crop_is_the_whole(
    mask: npt.NDArray[np.bool_], top: int, left: int, bottom: int, right: int
) -> None:
    whole = np.pad(mask, ((top, bottom), (left, right)))
    assert encode_mask(mask, offset_yx=(top, left), size_hw=whole.shape) == encode_mask(whole)


def test_bytes_and_lists_are_decoded() -> None:
    mask = SPECIAL["noise"]
    compressed, plain = encode_mask(mask), encode_mask(mask, compressed=False)
    as_bytes = {**compressed, "counts": compressed["counts"].encode()}
    np.testing.assert_array_equal(decode_mask(as_bytes), mask)
    np.testing.assert_array_equal(decode_mask(plain), mask)


def test_large_counts() -> None:
    rle = {"size": [100_000, 3], "counts": [299_999, 1]}
    mask = decode_mask(rle)
    assert mask[-1, -1]
    assert mask.sum() == 1
    assert encode_mask(mask) == official(mask)


@pytest.mark.parametrize("rle", [{}, {"size": [2]}, {"size": [2, 2]}, {"size": "ab", "counts": []}])
def test_missing_keys(rle: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must have 'size' \[height, width\] and 'counts'"):
        decode_mask(rle)


@pytest.mark.parametrize("counts", [[3], [5], [-1, 5], []])
def test_runs_that_do_not_add_up(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must add up to 2 x 2 = 4, .*cut or changed"):
        decode_mask({"size": [2, 2], "counts": counts})


@pytest.mark.parametrize("text", ["", "P", "\n", "04é", "P" * 20 + "0"])
def test_text_that_is_no_rle(text: str) -> None:
    with pytest.raises(ValueError, match="compressed COCO RLE are cut or are not COCO's"):
        decode_mask({"size": [2, 2], "counts": text})


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"mask must have shape \(H, W\), got \(3,\)"):
        encode_mask(np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"shape \(3, 3\) at \(1, 0\) must lie within \(3, 3\)"):
        encode_mask(np.zeros((3, 3), bool), offset_yx=(1, 0), size_hw=(3, 3))
