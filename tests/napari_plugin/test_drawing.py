"""Masks and points of drafts in a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.napari_plugin.helpers import find_layer
from tests.napari_plugin.segmenting import until

from sam_plugins.napari_plugin.drawing import DraftView
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Answer, Draft, PointPrompt, Sight, State, Turn

pytestmark = pytest.mark.gui


def test_points_lie_on_a_mask_that_came_after_them(viewer: Any) -> None:
    image = viewer.add_image(np.zeros((32, 32), np.uint8))
    view = DraftView(viewer, image, None)
    sight = Sight(Plane(), Window(0, 0, 32, 32), 0, (), None)
    waiting = State().with_new(Draft(0, sight, (Turn((PointPrompt(5, 5),)),)))
    view.show(waiting)
    until(lambda: find_layer(viewer, "points") is not None)  # the picture is still being encoded
    mask = MaskCrop.of(np.ones((8, 8), bool))
    answered = replace(waiting.drafts[0], answer=Answer((mask,), (0.9,)))
    view.show(replace(waiting, drafts=(answered,)))
    layers = list(viewer.layers)
    current, points = find_layer(viewer, "current"), find_layer(viewer, "points")
    assert layers.index(current) < layers.index(points)
    assert current.data[:8, :8].all()
    assert points.canvas_size_limits[1] <= 16  # of the screen: it hides no small object
    view.close()
