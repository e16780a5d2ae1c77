"""Following is asked for early, stopped, left and gone on with."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402
from tests.napari_plugin.segment_stack.following import (  # noqa: E402
    Labels,
    current,
    followed,
    is_following,
    middle,
    start,
)
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    Open,
    drafts,
    iou,
    load_held_back,
    objects,
    until,
)


def test_cancel_keeps_what_is_done_and_propagate_goes_on_from_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, hand, truth = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    index = drafts(widget)[0].sight.plane.at[0]
    until(lambda: len(np.flatnonzero(current(widget).any(axis=(1, 2)))) >= 4)
    near = np.flatnonzero(current(widget).any(axis=(1, 2)))
    assert near.tolist() == list(range(near[0], near[-1] + 1))  # both ways from where one is
    assert near[0] < index < near[-1]
    hand.key(Qt.Key.Key_C)  # not while it goes on
    assert not objects(widget).any()
    began = time.monotonic()
    widget.controller.stop_propagating()
    until(lambda: not is_following(widget))
    assert time.monotonic() - began < 1
    (part,) = followed(widget)
    assert {end.reason for end in part.ends} == {"not followed further yet"}
    assert len(part.slices) >= 4
    job = widget.segmenter.through.follower.job  # type: ignore[union-attr]
    assert job is not None
    assert job.wait(10)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (whole,) = followed(widget)
    assert len(whole.slices) > len(part.slices)
    assert iou(current(widget) > 0, truth) > 0.7
    kept = {found.plane: found.mask for found in whole.slices}
    assert all(kept[found.plane] == found.mask for found in part.slices)


@pytest.mark.parametrize("way", ["widget", "image"])
def test_leaving_while_objects_are_followed(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], way: str
) -> None:
    widget, hand, _ = start(viewer, open_segment, embryo)
    hand.key(Qt.Key.Key_P)
    until(lambda: len(np.flatnonzero(current(widget).any(axis=(1, 2)))) >= 2)
    follower = widget.segmenter.through.follower  # type: ignore[union-attr]
    job = follower.job
    assert job is not None
    if way == "widget":
        viewer.window.remove_dock_widget(widget)
        widget.close()
    else:
        viewer.layers.remove("embryo")
    assert job.wait(10)
    for _ in range(5):
        QApplication.processEvents()
    assert not follower.is_running


def test_following_may_be_wanted_before_the_answer_is_there(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    from napari.utils.notifications import notification_manager

    image, labels = embryo
    viewer.add_image(image, name="embryo")
    place = middle(labels == 2)
    viewer.dims.set_point(0, place[0])
    may_go = threading.Event()
    widget, hand = open_segment(loader=load_held_back(may_go))
    assert widget.segmenter is not None
    through = widget.segmenter.through
    hand.click(place)
    hand.key(Qt.Key.Key_C)
    hand.key(Qt.Key.Key_P)
    assert "about to be committed" in notification_manager.records[-1].message
    hand.key(Qt.Key.Key_Z, CTRL)
    hand.click(place)
    hand.key(Qt.Key.Key_P)
    assert "Then it is followed." in widget.status()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not through.is_awaited
    hand.click(place)
    hand.key(Qt.Key.Key_P)
    widget.controller.stop_propagating()
    assert not through.is_awaited
    hand.key(Qt.Key.Key_M)
    hand.key(Qt.Key.Key_P)
    assert not is_following(widget)
    may_go.set()
    until(lambda: followed(widget))
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.slices) > 3
    assert drafts(widget)[0].turns[-1].choice is not None
    assert not through.is_awaited
