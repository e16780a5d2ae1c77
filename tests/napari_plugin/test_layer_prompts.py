"""Points and shapes that people drew with napari's own tools become objects, each its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from napari.utils.notifications import notification_manager  # noqa: E402
from qtpy.QtWidgets import QPushButton  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    Nuclei,
    Open,
    answered,
    drafts,
    iou,
    mask_of,
    objects,
)

from sam_plugins.napari_plugin.session.values import BoxPrompt, PointPrompt  # noqa: E402


@pytest.fixture(scope="module")
def nuclei(test_data: Path) -> Nuclei:
    return Nuclei.read(test_data)


def press(widget: Any) -> None:
    widget.findChild(QPushButton, "prompt_from_layer").click()


def test_points_and_rectangles_are_objects(viewer: Any, open_segment: Open, nuclei: Nuclei) -> None:
    scale = (0.5, 0.25)
    viewer.add_image(nuclei.image, scale=scale)
    widget, _ = open_segment()
    centres = [nuclei.nucleus(rank)[1] for rank in range(3)]
    viewer.add_points([*centres, (-40, -40)], scale=scale)  # the last one lies beside the image
    press(widget)
    answered(widget)
    assert len(drafts(widget)) == 3
    for rank in range(3):
        truth, _ = nuclei.nucleus(rank)
        assert iou(mask_of(drafts(widget)[rank].mask, truth.shape), truth) > 0.7
    widget.controller.undo()
    assert drafts(widget) == ()  # one step

    boxes = []
    for rank in range(3):
        rows, columns = np.nonzero(nuclei.nucleus(rank)[0])
        boxes.append([[rows.min(), columns.min()], [rows.max() + 1, columns.max() + 1]])
    shapes = viewer.add_shapes(boxes, shape_type="rectangle", scale=scale)
    shapes.selected_data = {0, 2}
    press(widget)
    answered(widget)
    assert len(drafts(widget)) == 2
    widget.controller.commit()
    for number, rank in ((1, 0), (2, 2)):
        truth, _ = nuclei.nucleus(rank)
        assert iou(objects(widget) == number, truth) > 0.7


def test_points_of_several_slices_are_objects_of_their_slices(
    viewer: Any, open_segment: Open
) -> None:
    viewer.add_image(np.zeros((4, 40, 40), np.uint8))
    widget, _ = open_segment(ahead=False)
    viewer.add_points([(0, 10, 10), (3, 20, 30), (3, 5, 5)])
    press(widget)
    assert [(one.sight.plane.at, one.prompts) for one in drafts(widget)] == [
        ((0,), (PointPrompt(10, 10),)),
        ((3,), (PointPrompt(30, 20),)),
        ((3,), (PointPrompt(5, 5),)),
    ]
    widget.controller.clear()
    viewer.add_shapes([[(2, 4, 6), (2, 4, 20), (2, 30, 20), (2, 30, 6)]], shape_type="polygon")
    press(widget)
    (draft,) = drafts(widget)
    assert draft.sight.plane.at == (2,)
    assert draft.prompts == (BoxPrompt(6, 4, 20, 30),)


def test_what_is_missing_is_said(viewer: Any, open_segment: Open) -> None:
    viewer.add_image(np.zeros((40, 40), np.uint8))
    widget, _ = open_segment()
    press(widget)
    assert "no layer of points or shapes" in notification_manager.records[-1].message
    viewer.add_points([(90, 90)], name="far")
    press(widget)
    assert (
        "nothing of the layer 'far' lies on the image" in notification_manager.records[-1].message
    )
    viewer.add_points(name="empty", ndim=2)
    press(widget)
    assert "'empty' has nothing in it" in notification_manager.records[-1].message
    assert drafts(widget) == ()
