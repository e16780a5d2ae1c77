"""How sure a mean is: bootstrap intervals (Efron and Tibshirani 1993), by picture.

Objects of one picture resemble each other, so pictures are drawn with replacement, not objects:
an interval over single objects would look several times as sure as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

Statistic = Callable[[FloatArray], FloatArray]
"""A figure of a set that is no mean: from how often each picture counts, shape (r, n), to the
figure of each of r draws, shape (r,)."""

_MAX_WITHOUT = 0.2
"""Share of the draws without a figure: more mean that it rests on a single picture, which every
third draw (1/e) is without."""

DEFAULT_RESAMPLES = 2000
"""Enough for the ends of a 95 % interval to be steady in the second digit."""


@dataclass(frozen=True)
class Interval:
    """A mean and the range in which it would probably lie for other pictures of the same kind.

    Attributes
    ----------
    mean : float
        The mean itself; NaN without values.
    low, high : float
        Percentile interval; both NaN when there is one picture only, which says nothing about
        others.
    count : int
        Number of values behind the mean (of sets, for a mean over sets).
    """

    mean: float
    low: float
    high: float
    count: int


def bootstrap_mean(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of all values with its bootstrap interval.

    Parameters
    ----------
    values : array_like of shape (n,), float
        One value per object (or picture). NaN values, which measured nothing, are left out.
    groups : array_like of shape (n,), optional
        What belongs together, such as the picture of each object; groups are drawn whole.
        By default every value is its own group.
    level : float
        Probability in (0, 1) that the interval covers.
    resamples : int
        How often groups are drawn, 1 or more.
    seed : int
        Same seed, same interval.

    Raises
    ------
    ValueError
        If lengths differ, or ``level`` or ``resamples`` is out of range.

    Examples
    --------
    >>> bootstrap_mean([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5, count=3)
    """
    numbers, codes = _checked(values, groups)
    mean = float(numbers.mean()) if numbers.size else np.nan
    low, high = _percentiles(_resampled_means(numbers, codes, resamples, seed), level)
    return Interval(mean, low, high, int(numbers.size))


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of ``first - second``, measured on the same objects, with its interval.

    Two models that share the easy and the hard pictures differ by less than their own intervals
    suggest; only the paired interval tells whether one is better: ``low > 0``.

    Parameters
    ----------
    first, second : array_like of shape (n,), float
        Values of two models, object by object; where one is NaN the pair is left out.
    groups, level, resamples, seed
        As in :func:`bootstrap_mean`.

    Raises
    ------
    ValueError
        If lengths differ, or ``level`` or ``resamples`` is out of range.

    Examples
    --------
    >>> paired_bootstrap([0.6, 0.8], [0.5, 0.7]).low > 0
    True
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(
            f"first and second must hold one value per object each, got {one.shape} "
            f"and {other.shape}; measure both on the same objects"
        )
    return bootstrap_mean(one - other, groups, level=level, resamples=resamples, seed=seed)


def bootstrap_mean_over_sets(
    sets: Sequence[tuple[ArrayLike, ArrayLike | None]],
    *,
    level: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of the sets' means, each weighing the same, with its bootstrap interval.

    The sets stay as they are; the groups (pictures) of each are drawn with replacement. A set of
    one group keeps its mean in every draw; where all are such, there is no interval.

    Parameters
    ----------
    sets : sequence of (values, groups)
        As for :func:`bootstrap_mean`, one pair per set. Sets without any value are left out.
    level, resamples, seed
        As in :func:`bootstrap_mean`.

    Raises
    ------
    ValueError
        If lengths differ, or ``level`` or ``resamples`` is out of range.
    """
    means, draws = [], []
    is_sure = False
    for index, (values, groups) in enumerate(sets):
        numbers, codes = _checked(values, groups)
        if not numbers.size:
            continue
        means.append(float(numbers.mean()))
        drawn = _resampled_means(numbers, codes, resamples, seed + index)
        is_sure |= drawn.size > 0
        draws.append(drawn if drawn.size else np.full(resamples, means[-1]))
    if not means:
        return Interval(np.nan, np.nan, np.nan, 0)
    low, high = _percentiles(np.mean(draws, axis=0) if is_sure else np.empty(0), level)
    return Interval(float(np.mean(means)), low, high, len(means))


def bootstrap_statistic(
    statistics: Sequence[tuple[Statistic, int]],
    *,
    level: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean over sets of a figure that is computed from a whole set at once.

    Average precision and the best F-measure of edges are such figures: they cannot be had by
    averaging pictures. The pictures of each set are drawn with replacement and the figure is
    computed again.

    Parameters
    ----------
    statistics : sequence of (callable, int)
        For each set its figure, see :data:`Statistic`, and the number of its pictures. Sets whose
        figure is NaN are left out.
    level, resamples, seed
        As in :func:`bootstrap_mean`.

    Returns
    -------
    Interval
        ``count`` is the number of sets, or of pictures where there is a single set.

    Raises
    ------
    ValueError
        If ``level`` or ``resamples`` is out of range.

    Examples
    --------
    >>> values = np.array([0.2, 0.4])
    >>> mean = lambda counts: counts @ values / counts.sum(axis=1)
    >>> round(bootstrap_statistic([(mean, 2)]).mean, 3)
    0.3
    """
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    values: list[float] = []
    draws: list[FloatArray] = []
    is_sure = False
    for index, (statistic, count) in enumerate(statistics):
        value = float(statistic(np.ones((1, count)))[0]) if count else np.nan
        if np.isnan(value):
            continue
        values.append(value)
        if count < 2:
            draws.append(np.full(resamples, value))
            continue
        rng = np.random.default_rng(seed + index)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        found = statistic(drawn.astype(np.float64))
        if np.isnan(found).mean() > _MAX_WITHOUT:
            found = np.full(resamples, value)
        else:
            is_sure = True
        draws.append(found)
    if not values:
        return Interval(np.nan, np.nan, np.nan, 0)
    count = statistics[0][1] if len(statistics) == 1 else len(values)
    low, high = _percentiles(_mean_of_draws(draws) if is_sure else np.empty(0), level)
    return Interval(float(np.mean(values)), low, high, count)


def _mean_of_draws(draws: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over sets of each draw; a draw in which no set has a figure is left out."""
    stacked = np.stack(draws)
    known = ~np.isnan(stacked)
    some = known.any(axis=0)
    means: FloatArray = np.where(known, stacked, 0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return means


def _checked(values: ArrayLike, groups: ArrayLike | None) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the finite values and the number of each one's group."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"values must have shape (n,), got {numbers.shape}")
    labels: NDArray[Any] = np.arange(numbers.size) if groups is None else np.asarray(groups)
    if labels.shape != numbers.shape:
        raise ValueError(
            f"groups must name a group for each of the {numbers.size} values, "
            f"got shape {labels.shape}"
        )
    measured = ~np.isnan(numbers)
    _, codes = np.unique(labels[measured], return_inverse=True)
    return numbers[measured], codes.astype(np.int64)


def _resampled_means(
    numbers: FloatArray, codes: NDArray[np.int64], resamples: int, seed: int
) -> FloatArray:
    """Return the mean of each draw of groups; nothing if there are fewer than two groups."""
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    count = int(codes.max()) + 1 if codes.size else 0
    if count < 2:
        return np.empty(0)
    sums = np.bincount(codes, weights=numbers)
    sizes = np.bincount(codes)
    rng = np.random.default_rng(seed)
    # How often each group is drawn is all that a mean needs to know.
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    means: FloatArray = (draws @ sums) / (draws @ sizes)
    return means


def _percentiles(draws: FloatArray, level: float) -> tuple[float, float]:
    """Return the two ends of the central interval; NaN without draws."""
    if not 0 < level < 1:
        raise ValueError(f"level must be a probability between 0 and 1, got {level}")
    if not draws.size:
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
