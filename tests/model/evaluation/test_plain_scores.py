"""Scores become plain values and come back as they were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from sam_plugins.model.evaluation.plain_scores import from_plain, to_plain


@dataclass(frozen=True)
class Score:
    name: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Other:
    name: str


def there_and_back(value: Any, *types: type) -> Any:
    return from_plain(json.loads(json.dumps(to_plain(value))), types)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1 + 0.2,
        float("inf"),
        "“word”",
        (1, (2.5, None)),
        [1, [], ()],
        {("all", 10): 0.5, "size": [4, 5]},
        Score("a", (Score("b"), {1: 2})),
    ],
)
def test_there_and_back(value: Any) -> None:
    found = there_and_back(value, Score)
    assert found == value
    assert type(found) is type(value)


def test_what_is_no_number_stays_none() -> None:
    assert np.isnan(there_and_back(float("nan")))


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.float64(0.1), np.int64(-3), np.bool_(1), np.float16(np.nan)],
)
def test_numbers_of_numpy_keep_their_type(value: np.generic) -> None:
    found = there_and_back(value)
    assert type(found) is type(value)
    np.testing.assert_equal(found, value)


def test_arrays_keep_type_and_shape() -> None:
    for array in (np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 4), np.float32)):
        found = there_and_back(array)
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert np.array_equal(found, array)
        found += 1  # it can be written to


def test_only_what_is_expected_is_made() -> None:
    plain = to_plain(Other("a"))
    with pytest.raises(ValueError, match=r"expected scores as they are kept, got .*a Other"):
        from_plain(plain, (Score,))
    for wrong in ({}, [1], {"array": "", "dtype": "O", "shape": None}, {"of": "Score"}):
        with pytest.raises(ValueError, match="expected scores as they are kept"):
            from_plain(wrong, (Score,))


@pytest.mark.parametrize("value", [object(), {1}, np.array(["a"]), Score])
def test_what_is_no_score_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="in scores, got"):
        to_plain(value)
