"""Label images as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_plugins.errors import DatasetError, UnreadableImageError
from sam_plugins.model.io.label_files import as_labels, read_labels

LABELS = np.array([[0, 1, 1, 0], [0, 0, 7, 7]], np.uint8)


def test_indices_of_a_palette_are_labels(tmp_path: Path) -> None:
    # as PASCAL VOC and DAVIS store their masks
    picture = Image.fromarray(LABELS)
    picture.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    assert picture.mode == "P"
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)
    tifffile.imwrite(
        tmp_path / "a.tif",
        LABELS,
        photometric="palette",
        colormap=np.random.default_rng(0).integers(0, 2**16, (3, 256), np.uint16),
    )
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), LABELS)


def test_an_inverted_grey_is_what_was_written(tmp_path: Path) -> None:
    # as ImageJ stores masks with an inverting table of colours
    tifffile.imwrite(tmp_path / "a.tif", LABELS, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), LABELS)


@pytest.mark.parametrize("kind", ["uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_whole_numbers_of_any_type(tmp_path: Path, kind: str) -> None:
    large = LABELS.astype(kind) * 10_000
    tifffile.imwrite(tmp_path / "a.tif", large)
    read = read_labels(tmp_path / "a.tif")
    assert np.issubdtype(read.dtype, np.integer)
    np.testing.assert_array_equal(read, large)


def test_a_mask_is_one_object() -> None:
    assert as_labels(LABELS > 0, "a").dtype == np.uint8
    np.testing.assert_array_equal(as_labels(np.stack([LABELS] * 3, -1), "a"), LABELS)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.where(LABELS == 0, -1, LABELS.astype(np.int16)), r"not be negative, got -1 in a\.tif"),
        (LABELS + np.float32(0.5), r"must be whole numbers, got 0\.5 in a\.tif"),
        (np.where(LABELS == 0, np.nan, 1), r"must be whole numbers, got nan in a\.tif"),
        (LABELS * np.float32(1e30), r"must be below \d+, got 7e\+30 in a\.tif"),
        (np.stack([LABELS, LABELS * 2, LABELS], -1), r"one channel of integers, got shape \(2, 4"),
        (LABELS * 1j, r"one channel of integers, got shape \(2, 4\) of complex128 in a\.tif"),
    ],
)
def test_what_is_no_label_image(pixels: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        as_labels(pixels, "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_formats_that_change_values(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(LABELS).convert("RGB").save(path)
    with pytest.raises(DatasetError, match=rf"without loss, got JPEG .*a\.{suffix}"):
        read_labels(path)
    Image.fromarray(LABELS).convert("RGB").save(tmp_path / "exact.webp", lossless=True)
    np.testing.assert_array_equal(read_labels(tmp_path / "exact.webp"), LABELS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"nowhere\.png: no such file"):
        read_labels(tmp_path / "nowhere.png")
