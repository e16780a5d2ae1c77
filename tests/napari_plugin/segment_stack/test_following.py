"""Objects through stacks in a real window: a nucleus of an embryo, a car in a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from qtpy.QtWidgets import QPushButton  # noqa: E402
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
    SHIFT,
    Open,
    answered,
    drafts,
    iou,
    objects,
    until,
)

from sam_plugins import read_image  # noqa: E402
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of  # noqa: E402
from sam_plugins.napari_plugin.images import ImageSource  # noqa: E402
from sam_plugins.napari_plugin.samples import nuclei_3d  # noqa: E402
from sam_plugins.napari_plugin.session.planes import Plane  # noqa: E402
from sam_plugins.napari_plugin.stack import NoStackError, follow_axis  # noqa: E402


def test_click_propagate_commit_undo_redo(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    truth = labels == 2
    index, y, x = middle(truth)
    viewer.dims.set_point(0, index)
    widget, hand = open_segment()
    hand.click((index, y, x))
    answered(widget)
    hand.key(Qt.Key.Key_P)
    assert is_following(widget)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.ends) == 2
    assert iou(current(widget) > 0, truth) > 0.7
    shown = current(widget) > 0
    hand.key(Qt.Key.Key_C)
    np.testing.assert_array_equal(objects(widget) == 1, shown)
    committed = objects(widget).tobytes()
    assert not current(widget).any()
    hand.key(Qt.Key.Key_Z, CTRL)
    assert not objects(widget).any()
    np.testing.assert_array_equal(current(widget) > 0, shown)
    hand.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert objects(widget).tobytes() == committed
    hand.key(Qt.Key.Key_Z, CTRL)
    hand.key(Qt.Key.Key_Z, CTRL)
    assert followed(widget) == ()
    assert np.flatnonzero(current(widget).any(axis=(1, 2))).tolist() == [index]


@pytest.mark.slow
def test_many_objects_at_once_in_one_step(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    index = 25
    inside = [n for n in np.unique(labels[index]) if n and (labels[index] == n).sum() > 150][:3]
    viewer.dims.set_point(0, index)
    widget, _ = open_segment()
    points = []
    for number in inside:
        x, y = deepest_point(window_of(labels[index] == number))
        points.append((index, y, x))
    assert len(points) >= 2
    widget.segmenter.add_objects(points)  # type: ignore[union-attr]
    answered(widget)
    widget.controller.propagate()
    until(lambda: not is_following(widget))
    assert len(followed(widget)) == len(points)
    assert widget.controller.commit() == tuple(range(1, len(points) + 1))
    scores = [iou(objects(widget) == i, labels == n) for i, n in enumerate(inside, 1)]
    assert np.mean(scores) > 0.6
    widget.controller.undo()
    assert not objects(widget).any()


@pytest.mark.slow
def test_scaled_stacks_and_other_axes(viewer: Any, open_segment: Open) -> None:
    ((volume, keywords, _),) = nuclei_3d()
    viewer.add_image(volume[:, :128, :128], scale=keywords["scale"], translate=(10, 0, 0))
    viewer.dims.order = (1, 0, 2)  # planes of z and x, the slider moves y
    widget, hand = open_segment()
    segmenter = widget.segmenter
    assert segmenter is not None
    bright: Any = ndimage.gaussian_filter(volume[:, :128, :128].astype(float), (1, 2, 2))
    z, y, x = np.unravel_index(np.argmax(bright), bright.shape)
    world = (10 + 2 * z, y, x)
    viewer.dims.set_point(1, int(y))
    hand.click(world)
    answered(widget)
    assert drafts(widget)[0].sight.plane == Plane((0, 2), (int(y),))
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert found.axis == 1
    assert segmenter.through._stack(segmenter.session.state).voxel_size == (1.0, 2.0, 1.0)
    widget.controller.commit()
    inside = objects(widget) == 1
    assert inside[z, y, x]
    extents = np.ptp(np.argwhere(inside), axis=0) + 1
    assert 14 <= extents[1] <= 34  # a nucleus has a diameter of 18 to 28
    assert 0.5 < extents[0] * 2 / extents[1] < 2


@pytest.mark.slow
def test_a_car_is_followed_through_a_film(viewer: Any, open_segment: Open, test_data: Path) -> None:
    folder = test_data / "davis_car_shadow" / "val"
    frames = sorted((folder / "images").iterdir())[:8]
    truth = np.stack(
        [read_image(p) > 0 for p in sorted((folder / "labels").iterdir())[: len(frames)]]
    )
    film = np.stack([read_image(path) for path in frames])
    viewer.add_image(film, rgb=True, name="car")
    widget, hand = open_segment()
    widget.through_stack.controls.set(kind="film")
    assert widget.controller.follow_params.min_overlap == 0.5
    rows, columns = np.nonzero(truth[0])
    corners = [(0, f(rows), f(columns)) for f in (np.min, np.mean, np.max)]
    hand.drag(corners, SHIFT)
    answered(widget)
    hand.key(Qt.Key.Key_P)
    until(lambda: not is_following(widget))
    (found,) = followed(widget)
    assert len(found.slices) == len(frames)
    assert found.ends[0].reason == "edge of the range"
    assert iou(current(widget) > 0, truth) > 0.5


def test_in_3d_display_the_mouse_is_left_alone_and_the_buttons_work(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    widget, _, truth = start(viewer, open_segment, embryo)
    viewer.dims.ndisplay = 3
    assert not widget.controller.takes_mouse
    assert "3D display" in widget.status()
    for name in ("propagate", "commit", "undo", "redo"):
        button = widget.findChild(QPushButton, name)
        assert button is not None
        button.click()
        until(lambda: not is_following(widget))
        if name == "undo":
            assert not objects(widget).any()
    assert iou(objects(widget) == 1, truth) > 0.7
    viewer.dims.ndisplay = 2
    assert "3D display" not in widget.status()


def test_what_cannot_be_followed_says_why(viewer: Any, open_segment: Open) -> None:
    viewer.add_image(np.zeros((64, 64), np.uint8))
    widget, _ = open_segment()
    through = widget.segmenter.through  # type: ignore[union-attr]
    assert not widget.through_stack.isVisible()
    with pytest.raises(NoStackError, match="click on one first"):
        through.follow()
    with pytest.raises(NoStackError, match="open a stack or a film"):
        follow_axis(through._segmenter.viewpoint.source, Plane())
    source = ImageSource([np.zeros((4, 5, 6), np.uint8)])
    with pytest.raises(NoStackError, match="roll the axes"):
        follow_axis(source, Plane((1, 2), (0,)), 2)
