"""Parameters of following: they say what the model's side says."""

from __future__ import annotations

import pytest

from sam_plugins.model.inference.volume import FILM, PropagationOptions
from sam_plugins.napari_plugin.follow_params import FollowParams, preset


def test_the_defaults_are_those_of_the_library() -> None:
    assert FollowParams().options() == PropagationOptions()
    assert FollowParams(**preset("film")).options() == FILM
    assert FollowParams(min_overlap=0.3).options().min_overlap == 0.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "heap"}, "kind must be one of volume, film"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"min_overlap": 1.5}, r"min_overlap must lie in \[0, 1\]"),
        ({"max_area_ratio": 0.5}, "max_area_ratio must be 1 or more"),
        ({"first": 5, "last": 3}, "last must be -1 or 5 or more, got 3"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FollowParams(**values)  # type: ignore[arg-type]


def test_axis_and_range_are_not_kept() -> None:
    assert FollowParams(axis=1, first=3, last=9, patience=5).lasting == FollowParams(patience=5)
