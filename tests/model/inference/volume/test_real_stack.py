"""The shipped model on a real stack: eight nuclei of a mouse embryo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.model.inference.volume.shapes3d import iou

from sam_plugins import segment_volume
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume import (
    Seed,
    SliceEmbeddings,
    Volume,
    correct,
    propagate,
)
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of

Nucleus = tuple[Any, Any]
"""Picture and truth of one nucleus and what lies around it, about 30 x 60 x 60."""


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> list[Nucleus]:
    """All eight."""
    folder = test_data / "mouse_embryo_3d" / "train"
    values = tifffile.imread(folder / "images" / "8_cell_stage.tif")
    labels = tifffile.imread(folder / "labels" / "8_cell_stage.tif")
    cut = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(
            slice(max(0, s.start - m), s.stop + m) for s, m in zip(window, (6, 20, 20), strict=True)
        )
        cut.append((values[around], labels[around] == number))
    return cut


def middle_seed(truth: Any) -> Seed:
    """Return a click in the middle slice of an object."""
    there = np.flatnonzero(truth.any(axis=(1, 2)))
    middle = int(there[len(there) // 2])
    point = deepest_point(window_of(truth[middle]))
    return Seed(1, middle, prompts=Prompts.for_object([point]))


def test_one_click_finds_nuclei_and_a_correction_makes_them_better(nuclei: list[Nucleus]) -> None:
    model = load_model()
    clicked, corrected = [], []
    for values, truth in nuclei:
        slices = SliceEmbeddings(model, Volume(values), cache=EmbeddingCache())
        found = propagate(slices, [middle_seed(truth)])
        worst = found.doubtful(1.0)[0].index
        encodes = slices.encodes
        better = correct(slices, found, [Seed(1, worst, truth[worst])])
        assert better.decodes < found.decodes
        assert slices.encodes - encodes <= len(slices) - encodes
        clicked.append(iou(found.mask(1), truth))
        corrected.append(iou(better.mask(1), truth))
    assert np.mean(clicked) > 0.6
    assert np.mean(corrected) > np.mean(clicked)


def test_what_is_cached_is_found_again(nuclei: list[Nucleus], tmp_path: Path) -> None:
    values, truth = nuclei[3]
    slices = SliceEmbeddings(load_model(), Volume(values), cache=EmbeddingCache(tmp_path))
    found = propagate(slices, [middle_seed(truth)])
    again = SliceEmbeddings(slices.model, slices.volume, cache=EmbeddingCache(tmp_path))
    assert (propagate(again, [middle_seed(truth)]).labels() == found.labels()).all()
    assert again.encodes == 0


@pytest.mark.slow
def test_nuclei_are_found_without_a_click(test_data: Path) -> None:
    folder = test_data / "mouse_embryo_3d" / "train"
    values = tifffile.imread(folder / "images" / "8_cell_stage.tif")
    labels = tifffile.imread(folder / "labels" / "8_cell_stage.tif")
    slices = SliceEmbeddings(load_model(), Volume(values), cache=EmbeddingCache())
    found = segment_volume(slices)
    hits = 0
    for number in range(1, labels.max() + 1):
        inside = found.labels[labels == number]
        if (inside > 0).any():
            best = np.bincount(inside[inside > 0]).argmax()
            hits += iou(found.labels == best, labels == number) > 0.5
    assert hits >= 6
