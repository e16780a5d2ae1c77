"""What people choose in **Segment**."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from sam_plugins.napari_plugin.actions import ACTIONS
from sam_plugins.napari_plugin.params import SegmentParams, parse_channels


def test_every_choice_has_a_label_and_a_tooltip() -> None:
    for entry in fields(SegmentParams):
        assert entry.metadata["label"]
        assert len(entry.metadata["tooltip"]) > 10


def test_parameters_go_to_a_document_and_back() -> None:
    params = SegmentParams(tool="lasso", class_name="myelin", channel_axis=2, channels="red=1")
    assert SegmentParams.from_document({**params.document(), "later": 1}) == params
    assert params.lasting == SegmentParams(class_name="myelin")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tool": "hammer"}, r"tool must be one of points, box, .* got 'hammer'"),
        ({"overlap": "both"}, r"overlap must be one of keep, replace, got 'both'"),
        ({"contrast": "none"}, r"contrast must be one of robust, layer, got 'none'"),
        ({"class_label": 0}, r"class_label must be 1 or more, got 0"),
        ({"channel_axis": -2}, r"channel_axis must be -1 or more, got -2"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentParams(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["pink=1", "red=", "red=x", "red=1, red=2", "1, 2"])
def test_channels_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("channels must")):
        parse_channels(text)


def test_no_key_does_two_things() -> None:
    keys = [action.key for action in ACTIONS if action.key]
    assert len(set(keys)) == len(keys)
