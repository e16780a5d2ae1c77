"""Refuse arguments of the wrong type where they enter, not where they first break something."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def require_type(name: str, value: object, expected: type, remedy: str) -> None:
    """Refuse an argument that is not what it must be.

    Parameters
    ----------
    name : str
        Of the argument.
    value : object
        What was given.
    expected : type
        What it must be.
    remedy : str
        Where such a value comes from.

    Raises
    ------
    TypeError
        With the names of both types.

    Examples
    --------
    >>> require_type("options", 3, dict, "leave it out for the defaults")
    Traceback (most recent call last):
    TypeError: options must be of type dict, got int; leave it out for the defaults
    """
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} must be of type {expected.__name__}, got {type(value).__name__}; {remedy}"
        )


def count(name: str, value: SupportsIndex) -> int:
    """Return a whole number of 1 or more.

    Raises
    ------
    TypeError
        If it is no whole number.
    ValueError
        If it is less than 1.

    Examples
    --------
    >>> count("chunk_size", 4)
    4
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, got {number}")
    return number
