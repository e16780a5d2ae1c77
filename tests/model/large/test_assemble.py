"""Who owns the pixels where objects of neighbouring tiles overlap."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from sam_plugins.model.large.assemble import join_tiles, paint_joined
from sam_plugins.model.large.join import JoinOptions
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.tiles import TileResult

LARGE, SMALL = slice(20, 40), slice(36, 44)  # columns; cores meet at 32


@pytest.mark.parametrize(("overlap", "owner"), [("score", LARGE), ("smaller", SMALL)])
def test_the_better_or_the_smaller_object_owns_an_overlap_of_tiles(
    overlap: Literal["score", "smaller"], owner: slice
) -> None:
    plan = TilePlan((32, 64), 48, 16)
    seen = {1: (LARGE, 0.9), 2: (SMALL, 0.6)}
    results = []
    for tile in plan:
        picture = np.zeros(plan.size_hw, np.uint16)
        scores = []
        if tile.index in seen:
            columns, score = seen[tile.index]
            picture[8:24, columns] = 1
            scores = [score]
        points_xy = np.zeros((len(scores), 2), np.float32)
        results.append(TileResult(picture[tile.window], np.array(scores, np.float32), points_xy))
    numbering = join_tiles(plan, results.__getitem__, JoinOptions())
    assert numbering.joined.areas.tolist() == [320, 128]
    painted = np.zeros(plan.size_hw, np.uint32)
    for tile in plan:
        painted[tile.core] = paint_joined(plan, results.__getitem__, tile.index, numbering, overlap)
    number = 1 if owner is LARGE else 2
    assert (painted[8:24, owner] == number).all()
    assert sorted(np.unique(painted)) == [0, 1, 2]
    assert np.count_nonzero(painted) == 16 * 24
