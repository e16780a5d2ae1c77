"""Layers of ours in a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image, Labels

from sam_plugins.napari_plugin.layers import add_labels, add_unselected


def labels(name: str) -> Labels:
    return Labels(np.zeros((8, 8), np.uint8), name=name)


@pytest.mark.parametrize("chosen", [(), ("first",), ("first", "second")])
def test_a_layer_that_is_added_changes_no_selection(chosen: tuple[str, ...]) -> None:
    viewer = ViewerModel()
    for name in ("first", "second"):
        viewer.add_image(np.zeros((8, 8)), name=name)
    viewer.layers.selection.clear()
    viewer.layers.selection.update(viewer.layers[name] for name in chosen)
    active = viewer.layers.selection.active
    heard: list[object] = []
    for event in (viewer.layers.selection.events.active, viewer.layers.selection.events.changed):
        event.connect(heard.append)
    add_unselected(viewer, labels("ours"))
    assert heard == []
    assert {layer.name for layer in viewer.layers.selection} == set(chosen)
    assert viewer.layers.selection.active is active
    assert viewer.layers[-1].name == "ours"
    viewer.layers.selection.active = viewer.layers["ours"]
    assert heard  # it is heard again


def test_a_layer_comes_below_one_that_is_there() -> None:
    viewer = ViewerModel()
    image = Image(np.zeros((8, 8)), name="image")
    viewer.layers.append(image)
    points = viewer.add_points(name="points")
    add_labels(viewer, image, "current", name="ours", below=points)
    assert [layer.name for layer in viewer.layers] == ["image", "ours", "points"]
    viewer.layers.remove(points)
    add_labels(viewer, image, "current", name="on top", below=points)
    assert viewer.layers[-1].name == "on top"
