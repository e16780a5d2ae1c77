"""Proposed masks on the disk: the same objects come of them, whatever the thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.automatic import Proposals
from sam_plugins.model.inference.candidates import Candidates
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.suppression import PackedMasks
from sam_plugins.model.large.proposals import (
    DrawnSizes,
    WindowProposals,
    read_proposals,
    write_proposals,
)

LOW, FULL = (16, 16), (60, 64)
SIZES = DrawnSizes(FULL, (60, 64), (64, 64), LOW)
OPTIONS = replace(AUTO, labels=replace(AUTO.labels, min_area=1))


def proposals(boxes: list[tuple[int, int, int, int]], scores: list[float]) -> WindowProposals:
    """Return rectangles of low-resolution cells: top, left, bottom, right."""
    logits = np.full((len(boxes), *LOW), -5, np.float32)
    for one, (top, left, bottom, right) in zip(logits, boxes, strict=True):
        one[top:bottom, left:right] = 5
    chain = SizeChain(LOW, SIZES.padded_size_hw, SIZES.input_size_hw, FULL)
    found = Candidates(
        np.arange(len(boxes)),
        np.array(scores, np.float32),
        np.array(scores, np.float32),
        PackedMasks.pack(logits[:, :15] > 0),
        tuple(chain.cut(one) for one in logits),
    )
    points = np.array([[4 * left + 2, 4 * top + 2] for top, left, _, _ in boxes], np.float32)
    return WindowProposals(Proposals(points.reshape(-1, 2), found), SIZES)


THREE = proposals([(0, 0, 5, 5), (1, 0, 5, 5), (8, 8, 14, 12)], [0.5, 0.9, 0.3])


@pytest.mark.parametrize(("least", "count"), [(0.0, 2), (0.4, 1), (0.95, 0)])
def test_thresholds_choose_among_masks_of_a_file(tmp_path: Path, least: float, count: int) -> None:
    path = tmp_path / "masks.npz"
    write_proposals(path, THREE)
    before, after = (one.choose(least, OPTIONS) for one in (THREE, read_proposals(path)))
    assert after.labels.shape == FULL
    assert len(after) == count
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.points_xy, before.points_xy)


def test_a_window_without_objects(tmp_path: Path) -> None:
    write_proposals(tmp_path / "none.npz", proposals([], []))
    found = read_proposals(tmp_path / "none.npz").choose(0.0, OPTIONS)
    assert len(found) == 0
    assert not found.labels.any()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    write_proposals(path, THREE)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OutputError, match=r"masks.npz, the proposed masks of a window, is damaged"):
        read_proposals(path)
