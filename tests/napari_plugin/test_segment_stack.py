"""Objects through stacks in a real window: a nucleus of an embryo, a car in a film."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from qtpy.QtCore import Qt  # noqa: E402
from tests.napari_plugin.segmenting import (  # noqa: E402
    CTRL,
    SHIFT,
    Hand,
    answered,
    drafts,
    iou,
    load,
    shipped_model,
    until,
)

from sam_plugins import EmbeddingCache, read_image  # noqa: E402
from sam_plugins.model.inference.volume.shapes import deepest_point, window_of  # noqa: E402
from sam_plugins.napari_plugin.answering import Answerer  # noqa: E402
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402

Open = Callable[..., tuple[SegmentWidget, Hand]]
Labels = npt.NDArray[np.integer[Any]]


@pytest.fixture(scope="module")
def embryo(test_data: Path) -> tuple[npt.NDArray[Any], Labels]:
    folder = test_data / "mouse_embryo_3d" / "train"
    (path,) = (folder / "images").iterdir()
    (labels,) = (folder / "labels").iterdir()
    return tifffile.imread(path), tifffile.imread(labels)


@pytest.fixture
def open_segment(viewer: Any) -> Iterator[Open]:
    """Return what opens **Segment** beside the layers that are there."""
    opened: list[SegmentWidget] = []

    def open_it(loader: Any = load, *, ahead: bool = False) -> Any:
        widget = SegmentWidget(viewer, load=loader)
        params = widget.controller.follow_params
        widget.controller.set_follow_params(type(params)(encodes_ahead=ahead))
        viewer.window.add_dock_widget(widget, name="Segment")
        opened.append(widget)
        hand = Hand(viewer)
        hand.settle()
        return widget, hand

    yield open_it
    for widget in opened:
        widget.controller.close()


def middle(truth: npt.NDArray[np.bool_]) -> tuple[int, float, float]:
    """Return the middle slice of an object, and y and x of a point deep inside."""
    inside = np.flatnonzero(truth.any(axis=(1, 2)))
    index = int(inside[len(inside) // 2])
    x, y = deepest_point(window_of(truth[index]))
    return index, float(y), float(x)


def followed(widget: SegmentWidget) -> tuple[Any, ...]:
    assert widget.segmenter is not None
    return widget.segmenter.session.state.followed


def is_following(widget: SegmentWidget) -> bool:
    assert widget.segmenter is not None
    return widget.segmenter.through.follower.is_running


def objects(widget: SegmentWidget) -> Labels:
    assert widget.segmenter is not None
    return np.asarray(widget.segmenter.objects.data)


def current(widget: SegmentWidget) -> Labels:
    assert widget.segmenter is not None
    assert widget.segmenter.view.current is not None
    return np.asarray(widget.segmenter.view.current.data)


def test_click_propagate_commit_undo_redo(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    truth = labels == 1
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
