"""Checks that name the one value that is out of its range, for classes with many."""

from __future__ import annotations

import math


def require_at_least(least: float, **values: float) -> None:
    """Refuse the first value that is less, or no number.

    Raises
    ------
    ValueError
        With the value's name.

    Examples
    --------
    >>> require_at_least(1, steps=3, batch_size=0)
    Traceback (most recent call last):
    ...
    ValueError: batch_size must be 1 or more, got 0
    """
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be {least:g} or more, got {value}")


def require_positive(**values: float) -> None:
    """Refuse the first value that is not positive and finite.

    Raises
    ------
    ValueError
        With the value's name.

    Examples
    --------
    >>> require_positive(learning_rate=float("nan"))
    Traceback (most recent call last):
    ...
    ValueError: learning_rate must be positive and finite, got nan
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
