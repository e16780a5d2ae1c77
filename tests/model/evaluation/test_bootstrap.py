"""Intervals: what they must do for any values, and that they cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_plugins.model.evaluation.bootstrap import (
    Interval,
    bootstrap_mean,
    bootstrap_mean_over_sets,
    paired_bootstrap,
)

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=20)


@given(VALUES)
def test_the_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    result = bootstrap_mean(values, resamples=300)
    assert result.mean == pytest.approx(np.mean(values))
    assert result.count == len(values)
    assert min(values) - 1e-9 <= result.low <= result.high <= max(values) + 1e-9


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        result = bootstrap_mean(rng.normal(0.5, 0.2, 40), resamples=400, seed=trial)
        hits += result.low <= 0.5 <= result.high
    assert 0.88 <= hits / 200 <= 0.99


def test_objects_of_one_picture_are_drawn_together() -> None:
    groups = np.repeat(np.arange(6), 50)
    values = np.repeat(np.random.default_rng(1).uniform(size=6), 50)
    alone, together = bootstrap_mean(values), bootstrap_mean(values, groups)
    assert alone.mean == pytest.approx(together.mean)
    assert together.high - together.low > 3 * (alone.high - alone.low)
    named = bootstrap_mean(values, [f"picture {i}" for i in groups])
    assert named == together


def test_one_picture_says_nothing_about_others() -> None:
    result = bootstrap_mean([0.4, 0.6], ["a", "a"])
    assert result.mean == pytest.approx(0.5)
    assert np.isnan([result.low, result.high]).all()
    empty = bootstrap_mean([])
    assert empty.count == 0
    assert np.isnan(empty.mean)


def test_what_was_not_measured_is_left_out() -> None:
    assert bootstrap_mean([0.5, np.nan, 0.5]) == Interval(0.5, 0.5, 0.5, 2)


def test_same_seed_same_interval() -> None:
    values = np.linspace(0, 1, 9)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_pairs_see_a_small_gain_that_single_intervals_hide() -> None:
    rng = np.random.default_rng(2)
    old = rng.uniform(0, 0.9, 60)
    new = old + rng.normal(0.02, 0.01, 60)
    gain = paired_bootstrap(new, old)
    assert gain.low > 0.01
    assert bootstrap_mean(new).low < bootstrap_mean(old).high
    back = paired_bootstrap(old, new)
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low), abs=1e-3)


def test_each_set_weighs_the_same() -> None:
    sets = [([0.2] * 100, None), ([0.6, 0.8], ["a", "b"]), ([np.nan], None), ([0.9, 0.7], [1, 1])]
    result = bootstrap_mean_over_sets(sets)
    assert result.mean == pytest.approx((0.2 + 0.7 + 0.8) / 3)
    assert result.count == 3
    assert result.low == pytest.approx((0.2 + 0.6 + 0.8) / 3)
    assert np.isnan(bootstrap_mean_over_sets([]).mean)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"values must have shape \(n,\), got \(2, 2\)"):
        bootstrap_mean(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"a group for each of the 2 values, got shape \(3,\)"):
        bootstrap_mean([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="level must be a probability between 0 and 1, got 95"):
        bootstrap_mean([1, 2], level=95)
    with pytest.raises(ValueError, match="resamples must be 1 or more, got 0"):
        bootstrap_mean([1, 2], resamples=0)
    with pytest.raises(ValueError, match=r"one value per object each, got \(1,\) and \(2,\)"):
        paired_bootstrap([1], [1, 2])


def test_sets_of_single_pictures_have_no_interval() -> None:
    found = bootstrap_mean_over_sets([([0.2, 0.4], ["a", "a"]), ([0.5], ["b"])])
    assert found.mean == pytest.approx(0.4)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
