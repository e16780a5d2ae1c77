"""Help for tests of objects through stacks: a nucleus to click into, and what is followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tests.napari_plugin.segmenting import Hand, Open, answered

from sam_plugins.model.inference.volume.shapes import deepest_point, window_of
from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

Labels = npt.NDArray[np.integer[Any]]


def middle(truth: npt.NDArray[np.bool_]) -> tuple[int, float, float]:
    """Return the middle slice of an object, and y and x of a point deep inside."""
    inside = np.flatnonzero(truth.any(axis=(1, 2)))
    index = int(inside[len(inside) // 2])
    x, y = deepest_point(window_of(truth[index]))
    return index, float(y), float(x)


def start(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], **keywords: Any
) -> tuple[SegmentWidget, Hand, npt.NDArray[np.bool_]]:
    """Open **Segment** on the embryo, and click into the middle slice of a nucleus."""
    image, labels = embryo
    viewer.add_image(image, name="embryo")
    truth = labels == 2
    index, y, x = middle(truth)
    viewer.dims.set_point(0, index)
    widget, hand = open_segment(**keywords)
    hand.click((index, y, x))
    answered(widget)
    return widget, hand, truth


def followed(widget: SegmentWidget) -> tuple[Any, ...]:
    assert widget.segmenter is not None
    return widget.segmenter.session.state.followed


def is_following(widget: SegmentWidget) -> bool:
    assert widget.segmenter is not None
    return widget.segmenter.through.follower.is_running


def current(widget: SegmentWidget) -> Labels:
    assert widget.segmenter is not None
    assert widget.segmenter.view.current is not None
    return np.asarray(widget.segmenter.view.current.data)
