"""The shipped model on a real stack: eight nuclei of a mouse embryo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.model.inference.volume.shapes3d import iou

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume import (
    Seed,
    SliceEmbeddings,
    Volume,
    correct,
    propagate,
    segment_volume,
)
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of

NUMBER = 4


@pytest.fixture(scope="module")
def nucleus(test_data: Path) -> tuple[Any, Any]:
    """One nucleus and what lies around it: picture and labels, about 30 x 60 x 60."""
    folder = test_data / "mouse_embryo_3d" / "train"
    values = tifffile.imread(folder / "images" / "8_cell_stage.tif")
    labels = tifffile.imread(folder / "labels" / "8_cell_stage.tif")
    window = ndimage.find_objects(labels)[NUMBER - 1]
    around = tuple(
        slice(max(0, s.start - m), s.stop + m) for s, m in zip(window, (6, 20, 20), strict=True)
    )
    return values[around], labels[around]


def test_one_click_finds_a_nucleus_and_a_correction_makes_it_no_worse(
    nucleus: tuple[Any, Any], tmp_path: Path
) -> None:
    values, labels = nucleus
    truth = labels == NUMBER
    there = np.flatnonzero(truth.any(axis=(1, 2)))
    middle = int(there[len(there) // 2])
    slices = SliceEmbeddings(load_model(), Volume(values), cache=EmbeddingCache(tmp_path))
    point = deepest_point(window_of(truth[middle]))
    seed = Seed(1, middle, prompts=Prompts.for_object([point]))
    found = propagate(slices, [seed])
    score = iou(found.mask(1), truth)
    assert score > 0.6
    worst = found.doubtful(1.0)[0].index
    encodes = slices.encodes
    better = correct(slices, found, [Seed(1, worst, truth[worst])])
    assert iou(better.mask(1), truth) > score
    assert better.decodes < found.decodes
    assert slices.encodes - encodes <= len(slices) - encodes
    again = SliceEmbeddings(slices.model, slices.volume, cache=EmbeddingCache(tmp_path))
    assert (propagate(again, [seed]).labels() == found.labels()).all()
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
