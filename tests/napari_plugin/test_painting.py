"""What people paint with napari's own tools is one history with what they do in **Segment**."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.helpers import put_labels  # noqa: E402
from tests.napari_plugin.segmenting import CTRL, SHIFT, Hand, load  # noqa: E402

from sam_plugins.napari_plugin.layers import LayerCanvas  # noqa: E402
from sam_plugins.napari_plugin.painting import BrushWatch  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane  # noqa: E402
from sam_plugins.napari_plugin.session.session import Session  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402


def test_ctrl_z_takes_strokes_and_steps_back_in_their_order(viewer: Any) -> None:
    viewer.add_image(np.zeros((3, 64, 64), np.uint8))
    viewer.dims.set_point(0, 1)
    widget = SegmentWidget(viewer, load=load)
    assert widget.segmenter is not None
    session, objects = widget.segmenter.session, widget.segmenter.objects
    hand = Hand(viewer)
    hand.settle()
    done = [objects.data.copy()]

    def paint(mode: str, *path: tuple[int, int]) -> None:
        viewer.layers.selection.active = objects
        objects.mode, objects.selected_label = mode, 9
        hand.drag([(1, *place) for place in path])
        done.append(objects.data.copy())

    paint("paint", (20, 20), (20, 30), (30, 40))
    square = objects.data[1].copy()
    square[40:60, 10:30] = 2
    put_labels(session, Plane((1, 2), (1,)), square)
    done.append(objects.data.copy())
    paint("erase", (50, 20), (50, 40))
    objects.n_edit_dimensions = 3
    paint("paint", (5, 50), (8, 50))
    assert objects.data[0].any()
    objects.fill((1, 50, 12), 7)  # napari tells of it before it is written
    done.append(objects.data.copy())
    assert len({one.tobytes() for one in done}) == 6
    for before in reversed(done[:-1]):
        hand.key(Qt.Key.Key_Z, CTRL)
        np.testing.assert_array_equal(objects.data, before)
    assert session.undo_title is None
    for after in done[1:]:
        hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
        np.testing.assert_array_equal(objects.data, after)
    assert session.state.next_label == 10
    widget.controller.close()


def test_only_what_the_undo_of_napari_may_have_changed_is_looked_at(viewer: Any) -> None:
    layer = viewer.add_labels(np.zeros((3, 32, 32), np.uint32))
    canvas = LayerCanvas(viewer, layer)
    session = Session(canvas)
    watch = BrushWatch(layer, canvas, session)
    plane = Plane((1, 2), (1,))

    def is_looked_at() -> bool:
        looks = [session.take_suspects() for _ in range(3)]
        assert not looks[-1]
        return looks[0] == looks[1] == session.watched_planes != ()

    viewer.dims.set_point(0, 1)
    layer.paint((1, 5, 5), 4)
    put_labels(session, plane, np.full((32, 32), 6))
    assert session.watched_planes == (plane,)
    for index in (0, 2, 1):
        viewer.dims.set_point(0, index)
    session.undo()
    session.redo()
    layer.refresh()
    assert session.take_suspects() == ()
    layer.undo()
    assert is_looked_at()
    layer.redo()
    assert is_looked_at()
    layer.visible = False
    layer.undo()
    layer.paint((1, 20, 20), 8)  # nothing is to be done again: as if nothing had been undone
    assert is_looked_at()
    layer.undo()
    layer.undo()
    assert is_looked_at()
    layer.data = np.ones((3, 32, 32), np.uint32)
    assert is_looked_at()
    layer.paint((1, 5, 5), 4)
    assert session.take_suspects() == ()
    watch.close()
