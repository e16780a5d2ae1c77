"""Segment opens at once: what takes long comes in a later turn of the event loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.napari_plugin.helpers import find_layer
from tests.napari_plugin.segmenting import load, until

from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

pytestmark = pytest.mark.gui


def test_the_objects_layer_is_made_after_the_widget_is_there(viewer: Any) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    assert find_layer(viewer, "objects") is None
    assert "Click on an object" in widget.status()
    until(lambda: find_layer(viewer, "objects") is not None)
    assert widget.controller.ready_segmenter is widget.segmenter is not None
    widget.controller.close()


def test_whoever_asks_for_the_segmenter_before_gets_it(viewer: Any, qtbot: Any) -> None:
    image = viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    segmenter = widget.segmenter
    assert segmenter is not None
    assert segmenter.image is image
    qtbot.wait(300)  # the turn that would have made it makes no second one
    assert widget.segmenter is segmenter
    widget.controller.close()


def test_a_widget_that_closes_before_makes_no_layer(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.zeros((32, 32), np.uint8))
    widget = SegmentWidget(viewer, load=load)
    widget.controller.close()
    qtbot.wait(300)
    assert find_layer(viewer, "objects") is None
    assert widget.segmenter is None


def test_without_an_image_it_says_so(viewer: Any) -> None:
    widget = SegmentWidget(viewer, load=load)
    assert widget.status() == "Open an image to segment."
    widget.controller.close()
