"""Scores as plain values for JSON, and back: exactly the same values, of the same types."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

_AS_THEY_ARE = (type(None), bool, int, float, str)


def to_plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON can hold it.

    Parameters
    ----------
    value : object
        Numbers, text, arrays and NumPy's numbers; tuples, lists, mappings and dataclasses of such.

    Raises
    ------
    TypeError
        If it is anything else.

    Examples
    --------
    >>> to_plain((1, 0.5))
    {'tuple': [1, 0.5]}
    """
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain_array(np.asarray(value), is_number=isinstance(value, np.generic))
    if isinstance(value, tuple):
        return {"tuple": [to_plain(one) for one in value]}
    if isinstance(value, list):
        return {"list": [to_plain(one) for one in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[to_plain(key), to_plain(one)] for key, one in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        values = {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
        return {"of": type(value).__name__, "fields": values}
    raise TypeError(f"expected numbers, text and arrays in scores, got a {type(value).__name__}")


def from_plain(plain: Any, types: Sequence[type]) -> Any:  # noqa: ANN401
    """Return the value that :func:`to_plain` was given.

    Parameters
    ----------
    plain : object
        Whatever stands in a JSON file.
    types : sequence of type
        The dataclasses that it may hold; nothing else is made.

    Raises
    ------
    ValueError
        If it is not of :func:`to_plain`, or holds another dataclass.
    """
    if type(plain) in _AS_THEY_ARE:
        return plain
    try:
        return _restored(plain, types)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected scores as they are kept, got {error!r}") from error


def _restored(plain: Any, types: Sequence[type]) -> Any:  # noqa: ANN401
    """Return a value that is not as it stands."""
    made: dict[str, Callable[[], Any]] = {
        "array": lambda: _array(plain),
        "tuple": lambda: tuple(from_plain(one, types) for one in plain["tuple"]),
        "list": lambda: [from_plain(one, types) for one in plain["list"]],
        "mapping": lambda: {
            from_plain(key, types): from_plain(one, types) for key, one in plain["mapping"]
        },
        "of": lambda: _dataclass(plain, types),
    }
    return made[next(iter(plain), "")]()


def _plain_array(array: np.ndarray[Any, Any], *, is_number: bool) -> dict[str, Any]:
    """Return an array, or a number of NumPy's."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected arrays of numbers in scores, got {array.dtype}")
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    shape = None if is_number else list(array.shape)
    return {"array": content, "dtype": array.dtype.str, "shape": shape}


def _array(plain: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return an array, or a number of NumPy's."""
    dtype = np.dtype(plain["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype}")
    values = np.frombuffer(base64.b64decode(plain["array"]), dtype)
    return values[0] if plain["shape"] is None else values.reshape(plain["shape"]).copy()


def _dataclass(plain: Mapping[str, Any], types: Sequence[type]) -> Any:  # noqa: ANN401
    """Return one of the dataclasses that may be made."""
    of = next((one for one in types if one.__name__ == plain["of"]), None)
    if of is None:
        raise ValueError(f"a {plain['of']}")
    return of(**{name: from_plain(value, types) for name, value in plain["fields"].items()})
