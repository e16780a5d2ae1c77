"""Layers of ours in a viewer without a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.layers._source import Source

from sam_plugins.napari_plugin.belonging import labels_of, lies_on
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


def placed(viewer: ViewerModel, name: str, **keywords: Any) -> Image:
    image = Image(np.zeros((12, 8)), name=name, **keywords)
    viewer.layers.append(image)
    return image


def test_labels_belong_to_the_image_that_they_were_made_for() -> None:
    viewer = ViewerModel()
    one = placed(viewer, "one")
    other = placed(viewer, "other", translate=(0, 200))
    ours = add_labels(viewer, one, "objects")
    assert labels_of(viewer, "objects", one) is ours
    assert labels_of(viewer, "objects", other) is None
    one.translate = (30, 0)  # whoever moves it brings its labels along, or will
    one.name = "renamed"
    assert labels_of(viewer, "objects", one) is ours
    other.translate = (0, 0)
    assert labels_of(viewer, "objects", other) is ours  # it lies where they do
    theirs = add_labels(viewer, other, "objects")
    assert labels_of(viewer, "objects", other) is theirs
    assert labels_of(viewer, "objects", one) is ours


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"scale": (2, 1)},
        {"translate": (0, 0.5)},
        {"rotate": 3},
        {"affine": [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]},
    ],
)
def test_labels_are_shared_by_layers_of_one_picture(elsewhere: dict[str, Any]) -> None:
    viewer = ViewerModel()
    there = {"scale": (0.5, 0.5), "translate": (3, 4)}
    one, two = placed(viewer, "one", **there), placed(viewer, "two", **there)
    far = placed(viewer, "far", **{**there, **elsewhere})
    ours = add_labels(viewer, one, "objects")
    assert labels_of(viewer, "objects", two) is ours
    assert labels_of(viewer, "objects", far) is None
    assert lies_on(ours, two)
    assert not lies_on(ours, far)


def test_pictures_of_two_files_share_no_labels_unless_they_are_mixed() -> None:
    viewer = ViewerModel()
    one, two = placed(viewer, "one"), placed(viewer, "two")
    for image in (one, two):
        image._source = Source(path=f"{image.name}.tif")
    ours = add_labels(viewer, one, "objects")
    assert labels_of(viewer, "objects", two) is None
    one.blending = two.blending = "additive"
    assert labels_of(viewer, "objects", two) is ours
    viewer.layers.remove(one)
    assert labels_of(viewer, "objects", two) is None


def test_labels_whose_image_is_gone_are_those_of_one_in_its_place() -> None:
    viewer = ViewerModel()
    ours = add_labels(viewer, placed(viewer, "one"), "objects")
    viewer.layers.remove(viewer.layers["one"])
    assert labels_of(viewer, "objects", placed(viewer, "beside", translate=(0, 9))) is None
    assert labels_of(viewer, "objects", placed(viewer, "again")) is ours


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_labels_lie_on_an_image_with_channels(axis: int | None) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((3, 4, 8, 9)),
        scale=(2, 3, 4, 5),
        translate=(1, 2, 3, 4),
    )
    layer = add_labels(viewer, image, "objects", channel_axis=axis)
    assert lies_on(layer, image, axis)
    layer.translate = np.asarray(layer.translate) + 1
    assert not lies_on(layer, image, axis)
