"""How long following objects takes, said before it begins."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from qtpy.QtCore import Qt
from scipy import ndimage
from tests.napari_plugin.segmenting import Open, answered, until

from sam_plugins.napari_plugin.follow_estimate import (
    expected_to_follow,
    keep_follow_pace,
)
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.paces import known_pace


def test_the_pace_of_earlier_slices_tells() -> None:
    assert expected_to_follow(101, FollowParams()) == (
        "100 slices at most; how long, the first ones will tell."
    )
    keep_follow_pace(30.0, 60)
    assert expected_to_follow(101, FollowParams()) == (
        "100 slices at most; roughly 50 s, as earlier ones tell."
    )
    assert expected_to_follow(101, FollowParams(first=10, last=11)) == (
        "1 slice at most; roughly 1 s, as earlier ones tell."
    )


def test_a_handful_of_slices_tells_nothing() -> None:
    keep_follow_pace(9.0, 2)
    assert "how long, the first ones will tell" in expected_to_follow(50, FollowParams())


@pytest.mark.gui
def test_the_window_says_it_before_and_knows_the_pace_afterwards(
    viewer: Any, open_segment: Open
) -> None:
    z, y, x = np.ogrid[:24, :128, :128]
    ball = (2 * (z - 12)) ** 2 + (y - 60) ** 2 + (x - 70) ** 2 < 20**2
    noise = np.random.default_rng(0).normal(0, 0.02, ball.shape)
    viewer.add_image(ndimage.gaussian_filter(ball.astype(np.float32), (0, 1, 1)) + noise)
    viewer.dims.set_point(0, 12)
    widget, hand = partial(open_segment, ahead=False)()
    hand.click((12, 60, 70))
    answered(widget)
    assert widget.segmenter is not None
    through = widget.segmenter.through
    summary = widget.through_stack.summary
    assert "23 slices at most; how long, the first ones will tell." in summary.text()
    hand.key(Qt.Key.Key_P)
    until(lambda: not through.follower.is_running)
    pace = known_pace("follow pace", "default, auto")
    assert pace is not None
    assert 0 < pace < 60
    hand.key(Qt.Key.Key_C)
    hand.click((12, 60, 70))
    answered(widget)
    assert "23 slices at most; roughly " in summary.text()
