"""Objects of tiles become objects of a picture: counted on literals."""

from __future__ import annotations

import numpy as np
import pytest

from sam_plugins.model.large.join import (
    Contact,
    JoinOptions,
    TileObjects,
    contacts_of,
    join,
    objects_of_tile,
)
from sam_plugins.model.large.plan import TilePlan


def objects(*rows: tuple[float, int, bool, bool]) -> TileObjects:
    """Return the objects of a tile: score, area, whether it is cut, whether it is its own."""
    scores, areas, is_cut, is_own = zip(*rows, strict=True)
    return TileObjects(
        np.array(scores, np.float32), np.array(areas), np.array(is_cut), np.array(is_own)
    )


def test_of_an_object_that_two_tiles_saw_the_better_one_stays() -> None:
    found = join(
        [objects((0.7, 10, False, True)), objects((0.9, 11, False, False))],
        [Contact(0, 1, 9, 10, 11)],
    )
    assert found.numbers.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9])


def test_an_object_whose_centre_falls_between_two_tiles_is_not_lost() -> None:
    found = join(
        [objects((0.7, 10, False, False)), objects((0.9, 11, False, False))],
        [Contact(0, 1, 9, 10, 11)],
    )
    assert found.numbers.tolist() == [0, 1]


def test_what_only_the_halo_of_a_tile_shows_does_not_count() -> None:
    found = join([objects((0.7, 10, False, True)), objects((0.9, 11, False, False))], [])
    assert found.numbers.tolist() == [1, 0]


def test_two_neighbours_that_touch_a_little_stay_two() -> None:
    found = join(
        [objects((0.7, 10, False, True)), objects((0.9, 11, False, True))],
        [Contact(0, 1, 2, 10, 11)],
    )
    assert found.numbers.tolist() == [1, 2]


def test_the_cut_end_of_an_object_goes_where_another_tile_saw_the_whole() -> None:
    found = join(
        [objects((0.5, 40, False, True)), objects((0.9, 12, True, False))],
        [Contact(0, 1, 10, 11, 12)],
    )
    assert found.numbers.tolist() == [1, 0]


def test_pieces_of_an_object_over_four_tiles_are_one() -> None:
    cut = (0.8, 100, True, True)
    found = join(
        [objects(cut), objects(cut), objects(cut), objects((0.4, 300, True, True))],
        [Contact(0, 1, 20, 25, 24), Contact(0, 2, 18, 20, 22), Contact(1, 3, 20, 22, 21)],
    )
    assert found.numbers.tolist() == [1, 1, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.6])  # by their areas


def test_one_cut_object_does_not_join_two_whole_ones() -> None:
    found = join(
        [
            objects((0.9, 30, False, True), (0.8, 30, False, True)),
            objects((0.7, 62, True, False)),
        ],
        [Contact(0, 2, 30, 30, 62), Contact(1, 2, 30, 30, 62)],
    )
    assert found.numbers[:2].tolist() == [1, 2]


def test_the_order_of_the_contacts_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    tiles = [
        TileObjects(
            rng.random(6).astype(np.float32),
            rng.integers(5, 50, 6),
            rng.random(6) < 0.5,
            rng.random(6) < 0.7,
        )
        for _ in range(4)
    ]
    contacts = [
        Contact(a, b, int(rng.integers(1, 9)), 9, 10)
        for a in range(24)
        for b in range(a + 1, 24)
        if rng.random() < 0.2
    ]
    first = join(tiles, contacts)
    again = join(tiles, [contacts[i] for i in rng.permutation(len(contacts))])
    assert first.numbers.tolist() == again.numbers.tolist()
    assert first.scores.tolist() == again.scores.tolist()


def test_no_objects_at_all() -> None:
    nothing = TileObjects(*(np.zeros(0, kind) for kind in (np.float32, np.int64, bool, bool)))
    assert join([nothing, nothing], []).numbers.tolist() == []


def test_an_object_is_cut_at_the_edge_of_a_window_but_not_at_that_of_the_picture() -> None:
    plan = TilePlan((10, 30), tile=16, halo=4)
    labels = np.zeros((10, 16), np.uint16)
    labels[0:3, 0:3], labels[4:7, 13:16], labels[8:10, 5:7] = 1, 2, 3
    found = objects_of_tile(labels, np.ones(3, np.float32), plan[0], plan.size_hw)
    assert found.is_cut.tolist() == [False, True, False]
    assert found.is_own.tolist() == [True, False, True]
    assert found.areas.tolist() == [9, 9, 4]


def test_contacts_are_counted_where_both_tiles_see() -> None:
    plan = TilePlan((10, 30), tile=16, halo=4)
    picture = np.zeros((10, 30), np.uint16)
    picture[2:5, 4:13] = 1
    first, second = plan[0], plan[1]
    one, other = picture[first.window], picture[second.window]
    assert contacts_of((first, one, 0), (second, other, 7)) == [Contact(0, 7, 27, 27, 27)]


def test_shares_beyond_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_piece_iou must lie in \(0, 1\], got 0"):
        JoinOptions(min_piece_iou=0)
