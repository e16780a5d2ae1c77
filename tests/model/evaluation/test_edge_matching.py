"""Matching of edges, on drawings whose answer is known, and against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_plugins.model.evaluation.edge_matching import match_edges, tolerance_of


def drawing(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def counts(found: np.ndarray, true: np.ndarray, distance: float) -> tuple[int, int]:
    match = match_edges(found, true, distance)
    assert not (match.found & ~found).any()
    assert not (match.true & ~true).any()
    return int(match.found.sum()), int(match.true.sum())


def test_the_same_drawing_matches_wholly_at_no_distance() -> None:
    line = drawing("..#..", "..#..", ".##..", "#....")
    match = match_edges(line, line, 0)
    assert np.array_equal(match.found, line)
    assert np.array_equal(match.true, line)


def test_a_line_beside_matches_within_the_tolerance_only() -> None:
    here, there = drawing(".#...", ".#...", ".#..."), drawing("...#.", "...#.", "...#.")
    assert counts(here, there, 2) == (3, 3)
    assert counts(here, there, 1.99) == (0, 0)


def test_a_doubled_line_counts_once() -> None:
    double, single = drawing("##", "##", "##"), drawing("#.", "#.", "#.")
    assert counts(double, single, 1.5) == (3, 3)


def test_pixels_are_shared_out_so_that_most_are_matched() -> None:
    # Whoever takes the nearest first leaves the left pixel alone: it reaches the middle one only.
    found, true = drawing("#.#..."), drawing(".#..#.")
    assert counts(found, true, 2) == (2, 2)
    match = match_edges(found, true, 2)
    assert match.true[0].tolist() == [False, True, False, False, True, False]


def test_of_equal_numbers_the_shortest_pairs_are_taken() -> None:
    # One found pixel and three drawn ones in reach: the nearest one is matched.
    match = match_edges(drawing("..#....."), drawing("#..##..."), 3)
    assert np.flatnonzero(match.true[0]).tolist() == [3]


def test_nothing_matches_nothing() -> None:
    line, nothing = drawing("###"), drawing("...")
    assert counts(line, nothing, 5) == (0, 0)
    assert counts(nothing, line, 5) == (0, 0)


def best_by_brute_force(
    found: list[tuple[int, int]], true: list[tuple[int, int]], limit: float
) -> tuple[int, float]:
    """Return the most pairs and their least total distance, by trying everything."""
    fewer, more = sorted((found, true), key=len)
    best = (0, 0.0)
    for chosen in itertools.permutations(more, len(fewer)):
        distances = [np.hypot(*np.subtract(a, b)) for a, b in zip(fewer, chosen, strict=True)]
        for kept in itertools.product((False, True), repeat=len(fewer)):
            used = [d for d, is_kept in zip(distances, kept, strict=True) if is_kept]
            if any(d > limit + 1e-9 for d in used):
                continue
            if (-len(used), sum(used)) < (-best[0], best[1]):
                best = (len(used), sum(used))
    return best


pixels = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(pixels, pixels, st.sampled_from([0.0, 1.0, 1.5, 2.3]))
def test_no_pairing_has_more_pairs(
    found: set[tuple[int, int]], true: set[tuple[int, int]], limit: float
) -> None:
    pictures = [np.zeros((5, 5), bool), np.zeros((5, 5), bool)]
    for picture, places in zip(pictures, (found, true), strict=True):
        for place in places:
            picture[place] = True
    expected, _ = best_by_brute_force(sorted(found), sorted(true), limit)
    assert counts(pictures[0], pictures[1], limit) == (expected, expected)


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    assert tolerance_of((300, 400)) == pytest.approx(3.75)
    assert tolerance_of((300, 400), 0.01) == pytest.approx(5)


def test_what_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have one shape \(H, W\), got \(1, 3\) and \(1, 2"):
        match_edges(drawing("###"), drawing("##"), 1)
    with pytest.raises(ValueError, match="max_distance must be 0 or more, got -1"):
        match_edges(drawing("#"), drawing("#"), -1)
